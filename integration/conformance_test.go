package integration

import (
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// The contract, by every driver. Each clause has tables of its own.
func TestConformance(t *testing.T) {
	for _, kind := range databases.EachDriver {
		t.Run(kind.Name, func(t *testing.T) {
			t.Parallel()
			db := kind.Open(t, kind.Create(t))
			var tables atomic.Int64
			storetest.Run(t, func(t *testing.T) devicegrant.Store {
				return kind.NewStore(t, db, sqlstore.Config{Prefix: fmt.Sprintf("t%d_", tables.Add(1))})
			})
		})
	}
}
