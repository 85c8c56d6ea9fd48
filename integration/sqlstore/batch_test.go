package sqlstore_test

import (
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant/integration/internal/databases"
	"github.com/devicegrant/devicegrant/sqlstore"
)

// PostgreSQL looks up the grants of a batch of polls one by one, however few there are:
// with a few thousands, to read all of them looks cheaper to its planner, and by the time
// that it plans anew there are many more.
func TestBatchesLookUpTheirGrants(t *testing.T) {
	t.Parallel()
	dsn := databases.PostgreSQL.Create(t)
	db, plans := openExplained(t, dsn)
	store := databases.PostgreSQL.NewStore(t, db, sqlstore.Config{Timeout: patience})
	const grants, devices = 2000, 128
	execAll(t, db, grantsOnPostgreSQL(grants), "ANALYZE devicegrant_grants")
	now := time.UnixMicro(1)
	poll := func() {
		var next atomic.Int64
		require.NoError(t, together(devices, func() error {
			_, err := store.Poll(t.Context(), [32]byte(codeOf(next.Add(1))), "tv", now)
			return err
		}))
	}
	execAll(t, db, explainAll...)
	for range 8 { // Plans are generic after five.
		poll()
		now = now.Add(time.Minute)
	}
	execAll(t, db, explainNothing)
	batches := map[bool]int{}
	for _, text := range *plans {
		if strings.Contains(text, "json_to_recordset") {
			batches[strings.Contains(text, "polled")]++
			assert.False(t, parsePlan(t, text).contains(plan.scans), text)
		}
	}
	assert.Positive(t, batches[true], "of first polls")
	assert.Positive(t, batches[false], "of others")
}
