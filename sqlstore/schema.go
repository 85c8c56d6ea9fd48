package sqlstore

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"
)

// SchemaVersion is the version of the schema that this package works with.
const SchemaVersion = 1

// schemaTimeout bounds creating and checking the schema, while other replicas do so
// too.
const schemaTimeout = time.Minute

//go:embed schema/*.sql
var schemaFiles embed.FS

// Schema returns the statements that create the tables, for a host with migrations
// of its own. They can be applied again. Those for MySQL have procedures in them,
// between the client's own DELIMITER commands.
func Schema(dialect Dialect, cfg Config) (string, error) {
	cfg, err := cfg.withDefaults(dialect)
	if err != nil {
		return "", err
	}
	text, err := schemaFiles.ReadFile("schema/" + dialect.name + ".sql")
	if err != nil {
		panic(err) // Every dialect has its file.
	}
	return strings.ReplaceAll(string(text), defaultPrefix, cfg.Prefix), nil
}

// CreateSchema creates the tables unless they are there. Replicas that start
// together may all call it. It returns an error when there are tables of another
// version. It takes at most a minute.
func CreateSchema(ctx context.Context, db *sql.DB, dialect Dialect, cfg Config) error {
	cfg, err := cfg.withDefaults(dialect)
	if err != nil {
		return err
	}
	text, err := Schema(dialect, cfg)
	if err != nil {
		return err
	}
	statements := split(text)
	ctx, cancel := context.WithTimeout(ctx, schemaTimeout)
	defer cancel()
	err = dialect.locked(ctx, db, func(c execer) error {
		if _, err := c.ExecContext(ctx, statements[0]); err != nil { // The table of the version.
			return err
		}
		version, err := schemaVersion(ctx, c, dialect, cfg)
		if err != nil || version == SchemaVersion {
			return err
		}
		if version != 0 {
			return otherVersion(version)
		}
		for _, statement := range statements[1:] {
			if _, err := c.ExecContext(ctx, statement); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("sqlstore: creating the schema: %w", err)
	}
	return nil
}

// checkSchema refuses a database without the tables, or with others.
func checkSchema(ctx context.Context, db *sql.DB, dialect Dialect, cfg Config) error {
	version, err := schemaVersion(ctx, db, dialect, cfg)
	switch {
	case err != nil:
		return fmt.Errorf("sqlstore: reading the schema's version, which CreateSchema or your migrations have to create first: %w", err)
	case version == 0:
		return errors.New("sqlstore: the schema is not complete; apply it with CreateSchema or your migrations")
	case version != SchemaVersion:
		return fmt.Errorf("sqlstore: %w", otherVersion(version))
	}
	return nil
}

func otherVersion(version int) error {
	return fmt.Errorf("the schema in the database is version %d, and this package works with version %d; see the changelog for how to migrate", version, SchemaVersion)
}

// schemaVersion returns the newest version in the table; zero if the schema is not
// complete.
func schemaVersion(ctx context.Context, c execer, dialect Dialect, cfg Config) (version int, err error) {
	q := query{on: c, text: strings.ReplaceAll(dialect.version, defaultPrefix, cfg.Prefix)}
	err = q.readOne(ctx, nil, []any{&version})
	return version, err
}

// split returns the statements of a schema file. One ends where a line ends with
// the delimiter, a semicolon unless a DELIMITER line says otherwise.
func split(text string) (statements []string) {
	delimiter, statement := ";", ""
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\n")
		if next, ok := strings.CutPrefix(line, "DELIMITER "); ok {
			delimiter = next
			continue
		}
		if statement == "" && (line == "" || strings.HasPrefix(line, "--")) {
			continue
		}
		if last, ok := strings.CutSuffix(line, delimiter); ok {
			statements = append(statements, statement+last)
			statement = ""
			continue
		}
		statement += line + "\n"
	}
	return statements
}

// execer is a connection or a transaction.
type execer interface {
	ExecContext(ctx context.Context, query string, args ...any) (sql.Result, error)
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

var prefixes = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,29}$`)

func (c Config) withDefaults(d Dialect) (Config, error) {
	if c.Prefix == "" {
		c.Prefix = defaultPrefix
	}
	if c.Timeout == 0 {
		c.Timeout = defaultTimeout
	}
	var errs []error
	if d.dialect == nil {
		errs = append(errs, errors.New("sqlstore: the dialect is missing; use PostgreSQL, MySQL or SQLite"))
	}
	if !prefixes.MatchString(c.Prefix) {
		errs = append(errs, fmt.Errorf("sqlstore: Prefix is %q; set it to lower-case letters, digits and underscores, at most 30 and no digit first", c.Prefix))
	}
	if c.Timeout < 0 {
		errs = append(errs, fmt.Errorf("sqlstore: Timeout is %v; set it above zero", c.Timeout))
	}
	return c, errors.Join(errs...)
}
