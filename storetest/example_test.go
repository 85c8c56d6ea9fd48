package storetest_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// A Store's own test is one line: func TestStore(t *testing.T) with Run in it.
func ExampleRun() {
	_ = func(t *testing.T) {
		storetest.Run(t, func(*testing.T) devicegrant.Store { return memstore.New(0) })
	}
}

// The database does not answer the first read, and the answer to the first write
// is lost on its way.
func ExampleNewFaulty() {
	ctx := context.Background()
	store := storetest.NewFaulty(memstore.New(0))
	code := devicegrant.DeviceCodeDigest(sha256.Sum256([]byte("device code")))
	grant := &devicegrant.Grant{DeviceCode: code, UserCode: [32]byte{1}, State: devicegrant.Pending, ExpiresAt: time.Now().Add(time.Minute)}
	if err := store.Create(ctx, grant); err != nil {
		fmt.Println(err)
	}

	store.Inject(storetest.OpByDeviceCode, storetest.Fault{})
	_, err := store.ByDeviceCode(ctx, code)
	fmt.Println("read:", err)

	store.Inject(storetest.OpSwap, storetest.Fault{Err: errors.New("connection reset"), Lost: true})
	grant.State = devicegrant.Approved
	fmt.Println("write:", store.Swap(ctx, grant))

	stored, err := store.ByDeviceCode(ctx, code)
	fmt.Println("stored:", stored.State, err)
	fmt.Println("reads:", store.Calls(storetest.OpByDeviceCode))
	// Output:
	// read: storetest: injected fault
	// write: connection reset
	// stored: approved <nil>
	// reads: 2
}
