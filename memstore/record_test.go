package memstore

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
)

var special = map[reflect.Type]func(*rand.Rand) any{
	reflect.TypeFor[time.Time](): func(r *rand.Rand) any {
		return time.UnixMicro(r.Int64N(1<<52) - 1<<51).UTC()
	},
	reflect.TypeFor[netip.Addr](): func(r *rand.Rand) any {
		var b [16]byte
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		addrs := []netip.Addr{
			netip.AddrFrom4([4]byte(b[:4])), netip.AddrFrom16(b), netip.AddrFrom16(b).WithZone("eth0"),
			netip.IPv6Unspecified(), netip.AddrFrom16(netip.AddrFrom4([4]byte(b[:4])).As16()),
		}
		return addrs[r.IntN(len(addrs))]
	},
	reflect.TypeFor[devicegrant.Key](): func(*rand.Rand) any { return devicegrant.Key{} }, // A Store does not keep it.
}

// scramble gives every field of a value, and of what is in it, another value than zero,
// mostly. A field of a kind that it does not know fails the test.
func scramble(t *testing.T, r *rand.Rand, v reflect.Value) {
	t.Helper()
	if f := special[v.Type()]; f != nil {
		v.Set(reflect.ValueOf(f(r)))
		return
	}
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			scramble(t, r, v.Field(i))
		}
	case reflect.Array:
		for i := range v.Len() {
			scramble(t, r, v.Index(i))
		}
	case reflect.String:
		v.SetString(strings.Repeat(string(rune('a'+r.IntN(26))), r.IntN(4)*r.IntN(100)))
	case reflect.Uint8:
		v.SetUint(uint64(1 + r.IntN(255)))
	case reflect.Int, reflect.Int64:
		v.SetInt(r.Int64() - 1<<62)
	case reflect.Bool:
		v.SetBool(true)
	default:
		t.Fatalf("what does the Store do with a %v?", v.Type())
	}
}

// randomGrant returns a grant with codes that are not zero.
func randomGrant(t *testing.T, r *rand.Rand) *devicegrant.Grant {
	g := new(devicegrant.Grant)
	scramble(t, r, reflect.ValueOf(g).Elem())
	return g
}

// get returns the grant, which both codes find.
func get(t *testing.T, s *Store, g *devicegrant.Grant) *devicegrant.Grant {
	t.Helper()
	byDevice, err := s.ByDeviceCode(t.Context(), g.DeviceCode)
	require.NoError(t, err)
	byUser, err := s.ByUserCode(t.Context(), g.UserCode)
	require.NoError(t, err)
	require.Equal(t, byDevice, byUser)
	return byDevice
}

// Every field comes back, one that is added to Grant later as well.
func TestEveryFieldComesBack(t *testing.T) {
	r := rand.New(rand.NewPCG(4, 8628))
	s := New(0)
	for range 500 {
		want := randomGrant(t, r)
		require.NoError(t, s.Create(t.Context(), want))
		require.Equal(t, want, get(t, s, want))

		// What Swap writes, and nothing else.
		next := randomGrant(t, r)
		next.DeviceCode, next.UserCode, next.Version = want.DeviceCode, want.UserCode, want.Version
		require.NoError(t, s.Swap(t.Context(), next))
		want.Scope, want.State, want.Subject, want.Session = next.Scope, next.State, next.Subject, next.Session
		want.Entered, want.ExpiresAt = next.Entered, next.ExpiresAt
		want.Version++
		require.Equal(t, want, get(t, s, want))
	}
}

// One field alone comes back, with nothing beside it.
func TestEachFieldComesBackAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 8628))
	s := New(0)
	for i := range reflect.TypeFor[devicegrant.Grant]().NumField() {
		for range 20 {
			full := randomGrant(t, r)
			g := &devicegrant.Grant{DeviceCode: full.DeviceCode, UserCode: full.UserCode}
			reflect.ValueOf(g).Elem().Field(i).Set(reflect.ValueOf(full).Elem().Field(i))
			require.NoError(t, s.Create(t.Context(), g))
			require.Equal(t, g, get(t, s, g), reflect.TypeFor[devicegrant.Grant]().Field(i).Name)
		}
	}
}

func TestInstants(t *testing.T) {
	assert.True(t, instantOf(time.Time{}).time().IsZero())
	at := time.Date(2026, time.June, 1, 12, 0, 0, 123456789, time.FixedZone("", 3600))
	assert.Equal(t, at.Truncate(time.Microsecond).UTC(), instantOf(at).time())
	assert.Equal(t, time.Date(1066, time.October, 14, 9, 0, 0, 1000, time.UTC), instantOf(time.Date(1066, time.October, 14, 9, 0, 0, 1999, time.UTC)).time())
}

func TestRecordsAreSmallAndWithoutPointers(t *testing.T) {
	assert.LessOrEqual(t, reflect.TypeFor[record]().Size(), uintptr(160))
	assert.LessOrEqual(t, reflect.TypeFor[cell]().Size(), uintptr(48))
	for _, typ := range []reflect.Type{reflect.TypeFor[record](), reflect.TypeFor[cell](), reflect.TypeFor[text](), reflect.TypeFor[entry]()} {
		wantNoPointers(t, typ)
	}
}

func wantNoPointers(t *testing.T, typ reflect.Type) {
	t.Helper()
	switch typ.Kind() {
	case reflect.Struct:
		for i := range typ.NumField() {
			wantNoPointers(t, typ.Field(i).Type)
		}
	case reflect.Array:
		wantNoPointers(t, typ.Elem())
	case reflect.Bool, reflect.Int, reflect.Int64, reflect.Uint8, reflect.Uint32:
	default:
		t.Errorf("a %v has pointers, which the garbage collector follows", typ)
	}
}
