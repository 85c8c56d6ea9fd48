package demo

import (
	"context"
	"database/sql"
	"strings"

	"github.com/devicegrant/devicegrant/sqlstore"
)

// tables are those of the host, with the types of columns in braces. Secrets are in
// them as SHA-256 digests; what a token is bound to is named as in its cnf (RFC 7800).
var tables = []struct{ name, key, columns string }{
	{"host_sessions", "cookie", `
	cookie     {digest} NOT NULL PRIMARY KEY,
	subject    {text}   NOT NULL,
	expires_at BIGINT   NOT NULL`},

	{"host_logins", "grant_id", `
	grant_id   {id}     NOT NULL PRIMARY KEY,
	client_id  {text}   NOT NULL,
	subject    {text}   NOT NULL,
	scope      {text}   NOT NULL,
	resource   {text}   NOT NULL,
	details    {text}   NOT NULL,
	cnf_method {text}   NOT NULL,
	cnf_value  {text}   NOT NULL,
	family     {digest} NOT NULL,
	newest     {digest} NOT NULL,
	issued_at  BIGINT   NOT NULL,
	expires_at BIGINT   NOT NULL`},

	{"host_access", "token", `
	token      {digest} NOT NULL PRIMARY KEY,
	grant_id   {id}     NOT NULL,
	scope      {text}   NOT NULL,
	resource   {text}   NOT NULL,
	cnf_method {text}   NOT NULL,
	cnf_value  {text}   NOT NULL,
	expires_at BIGINT   NOT NULL`},
}

var columnTypes = map[sqlstore.Dialect]*strings.Replacer{
	sqlstore.PostgreSQL: strings.NewReplacer("{digest}", "BYTEA", "{id}", "BYTEA", "{text}", "TEXT"),
	sqlstore.MySQL:      strings.NewReplacer("{digest}", "BINARY(32)", "{id}", "BINARY(16)", "{text}", "BLOB"), // No collation.
	sqlstore.SQLite:     strings.NewReplacer("{digest}", "BLOB", "{id}", "BLOB", "{text}", "TEXT"),
}

// createTables creates what is missing, in one transaction where a database can do
// that.
func (d *database) createTables(ctx context.Context, dialect sqlstore.Dialect) error {
	var statements []string
	if dialect == sqlstore.PostgreSQL { // It fails when two processes create a table.
		statements = append(statements, "SELECT pg_advisory_xact_lock(1752134516)") // "host"
	}
	for _, t := range tables {
		columns, index := columnTypes[dialect].Replace(t.columns), t.name+"_expires_at"
		if dialect == sqlstore.MySQL { // It has no CREATE INDEX IF NOT EXISTS.
			statements = append(statements, "CREATE TABLE IF NOT EXISTS "+t.name+" ("+columns+",\n\tKEY "+index+" (expires_at)) ENGINE = InnoDB")
			continue
		}
		statements = append(statements,
			"CREATE TABLE IF NOT EXISTS "+t.name+" ("+columns+")",
			"CREATE INDEX IF NOT EXISTS "+index+" ON "+t.name+" (expires_at)")
	}
	return d.transaction(ctx, func(ctx context.Context, tx *sql.Tx) error {
		for _, statement := range statements {
			if _, err := tx.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
}

// purges returns the statements that delete what has expired, up to a limit. None of
// it can be refreshed any more.
func purges(dialect sqlstore.Dialect) (statements []string) {
	for _, t := range tables {
		oldest := "expires_at <= ? ORDER BY expires_at LIMIT ?"
		if dialect != sqlstore.MySQL { // Only MySQL has DELETE with LIMIT.
			oldest = t.key + " IN (SELECT " + t.key + " FROM " + t.name + " WHERE " + oldest + ")"
		}
		statements = append(statements, "DELETE FROM "+t.name+" WHERE "+oldest)
	}
	return statements
}
