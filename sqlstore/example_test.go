package sqlstore_test

import (
	"context"
	"crypto/rand"
	"database/sql"
	"log"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// The host opens its database with its own driver, which it imports.
func ExampleNew() {
	ctx := context.Background()
	db, err := sql.Open("pgx", "postgres://auth@db.example.com/auth")
	if err != nil {
		log.Fatal(err)
	}
	if err := sqlstore.CreateSchema(ctx, db, sqlstore.PostgreSQL, sqlstore.Config{}); err != nil {
		log.Fatal(err)
	}
	store, err := sqlstore.New(db, sqlstore.PostgreSQL, sqlstore.Config{})
	if err != nil {
		log.Fatal(err)
	}
	defer store.Close()
	cfg := devicegrant.Config{Store: store} // and the rest
	_ = cfg
}

// Tokens that are kept in the same database are written in the transaction that
// redeems the grant: both succeed or fail together.
func ExampleStore_Transactional() {
	var store *sqlstore.Store // from New
	cfg := devicegrant.Config{
		Store: store.Transactional(),
		IssueToken: func(ctx context.Context, g *devicegrant.Grant) (*devicegrant.Token, error) {
			access := rand.Text()
			_, err := sqlstore.Tx(ctx).ExecContext(ctx,
				"INSERT INTO tokens (digest, grant_id, subject, scope) VALUES (sha256($1), $2, $3, $4)",
				[]byte(access), g.ID, g.Subject, g.Scope)
			if err != nil {
				return nil, err
			}
			return &devicegrant.Token{AccessToken: access, ExpiresIn: time.Hour}, nil
		},
	}
	_ = cfg
}

// A host with migrations of its own takes the statements from here, or from the
// files in the schema folder.
func ExampleSchema() {
	statements, err := sqlstore.Schema(sqlstore.MySQL, sqlstore.Config{Prefix: "auth_device_"})
	if err != nil {
		log.Fatal(err)
	}
	log.Print(statements)
}
