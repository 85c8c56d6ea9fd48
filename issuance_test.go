package devicegrant_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/storetest"
)

// limited is a fixture with limits on issuing: the defaults, unless change says
// otherwise.
func limited(t testing.TB, change func(*devicegrant.Issuance)) *fixture {
	return newFixture(t, func(c *devicegrant.Config) {
		c.Issuance = devicegrant.Issuance{}
		if change != nil {
			change(&c.Issuance)
		}
	})
}

// from asks for a code.
func (f *fixture) from(addr netip.Addr, client devicegrant.Client) (*devicegrant.Authorization, error) {
	return f.Authorize(f.t.Context(), client, devicegrant.AuthorizationRequest{Device: devicegrant.Device{Addr: addr}})
}

// A million requests come from one address, of one client.
func TestMillionRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const requests = 1_000_000
		f := limited(t, nil)
		refused, most := 0, 0
		f.onEvent = func(e devicegrant.Event) {
			if e.Type == devicegrant.EventLimited {
				refused++
			}
		}
		admitted, before := 0, uint64(0)
		for i := range requests {
			_, err := f.from(address(1), tv)
			if err == nil {
				admitted++
			} else {
				require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
			}
			if i%1000 == 0 { // A thousand a second, for a quarter of an hour and more.
				time.Sleep(time.Second)
				pending, err := f.List(t.Context(), devicegrant.Filter{ClientID: "tv"}, nil, 1000)
				require.NoError(t, err)
				most = max(most, len(pending))
			}
			if i == requests/10 {
				f.forget()
				before = heapBytes()
			}
		}
		f.forget()
		assert.InDelta(t, before, heapBytes(), 1<<20, "bytes: the memory stays as it was")
		assert.Equal(t, requests, admitted+refused)
		assert.Equal(t, 200, most, "grants are pending")
		t.Logf("%d of %d admitted, at most %d pending", admitted, requests, most)

		for i := range 100 {
			_, err := f.from(address(2+i), tv)
			require.NoError(t, err, "others of that client are served")
			_, err = f.from(address(2+i), cli)
			require.NoError(t, err, "and other clients")
		}
	})
}

// forget drops the events, which would grow.
func (f *fixture) forget() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.events = nil
}

func heapBytes() uint64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// What each quota admits, and when there is room again.
func TestQuotas(t *testing.T) {
	quota := func(burst int, every time.Duration, pending int) devicegrant.Quota {
		return devicegrant.Quota{Rate: devicegrant.Limit{Burst: burst, Every: every}, Pending: pending}
	}
	home, office, fleet := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1"), netip.MustParseAddr("198.51.100.200")
	for name, tt := range map[string]struct {
		limits   devicegrant.Issuance
		client   devicegrant.Client
		addrs    []netip.Addr // that ask in turn
		admitted int
		wait     time.Duration // what the first that is refused is told
	}{
		"rate of an address": {
			limits: devicegrant.Issuance{PerAddress: quota(3, 7*time.Second, 100)},
			addrs:  []netip.Addr{home}, admitted: 3, wait: 7 * time.Second,
		},
		"pending of an address": {
			limits: devicegrant.Issuance{PerAddress: quota(100, time.Second, 4)},
			addrs:  []netip.Addr{home}, admitted: 4, wait: time.Minute,
		},
		"each address by itself": {
			limits: devicegrant.Issuance{PerAddress: quota(3, 7*time.Second, 100)},
			addrs:  []netip.Addr{home, office}, admitted: 6, wait: 7 * time.Second,
		},
		"IPv6 by the /64": {
			limits: devicegrant.Issuance{PerAddress: quota(3, 7*time.Second, 100)},
			addrs:  []netip.Addr{netip.MustParseAddr("2001:db8::1"), netip.MustParseAddr("2001:db8::2")}, admitted: 3, wait: 7 * time.Second,
		},
		"rate of a client": {
			limits: devicegrant.Issuance{PerClient: quota(5, 9*time.Second, 100)},
			addrs:  []netip.Addr{home, office}, admitted: 5, wait: 9 * time.Second,
		},
		"pending of a client": {
			limits: devicegrant.Issuance{PerClient: quota(100, time.Second, 5)},
			addrs:  []netip.Addr{home, office}, admitted: 5, wait: time.Minute,
		},
		"a client without an address": {
			limits: devicegrant.Issuance{PerClient: quota(5, 9*time.Second, 100), PerAddress: quota(1, time.Hour, 1)},
			addrs:  []netip.Addr{{}}, admitted: 5, wait: 9 * time.Second,
		},
		"a client's own quota": {
			limits: devicegrant.Issuance{PerClient: quota(1, time.Hour, 1)},
			client: devicegrant.Client{Quota: quota(6, 8*time.Second, 100)},
			addrs:  []netip.Addr{home}, admitted: 6, wait: 8 * time.Second,
		},
		"an address's quota for a client": {
			limits: devicegrant.Issuance{PerAddress: quota(1, time.Hour, 1)},
			client: devicegrant.Client{AddressQuota: quota(6, 8*time.Second, 100)},
			addrs:  []netip.Addr{home}, admitted: 6, wait: 8 * time.Second,
		},
		"half a quota": {
			limits: devicegrant.Issuance{PerAddress: quota(3, 7*time.Second, 100)},
			client: devicegrant.Client{AddressQuota: devicegrant.Quota{Pending: 2}},
			addrs:  []netip.Addr{home}, admitted: 2, wait: time.Minute,
		},
		"the smallest network": {
			limits: devicegrant.Issuance{PerAddress: quota(1, time.Hour, 1), Networks: map[netip.Prefix]devicegrant.Quota{
				netip.MustParsePrefix("198.51.100.0/24"):   quota(2, time.Second, 100),
				netip.MustParsePrefix("198.51.100.128/25"): quota(4, 6*time.Second, 100),
				netip.MustParsePrefix("0.0.0.0/0"):         quota(3, time.Second, 100),
			}},
			addrs: []netip.Addr{fleet}, admitted: 4, wait: 6 * time.Second,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f := limited(t, func(i *devicegrant.Issuance) { *i = tt.limits })
				tt.client.ID, tt.client.DeviceGrant = "tv", true
				n := 0
				ask := func() error {
					_, err := f.from(tt.addrs[n%len(tt.addrs)], tt.client)
					n++
					return err
				}
				for range tt.admitted {
					require.NoError(t, ask())
				}
				err := ask()
				require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
				var e *devicegrant.Error
				require.ErrorAs(t, err, &e)
				assert.Equal(t, tt.wait, e.RetryAfter)
				n--
				if tt.wait < time.Minute {
					time.Sleep(tt.wait - time.Microsecond)
					require.Error(t, ask())
					n--
					time.Sleep(time.Microsecond)
					require.NoError(t, ask())
				}
				limited := f.raised(devicegrant.EventLimited)
				require.NotEmpty(t, limited)
				assert.Equal(t, "tv", limited[0].ClientID)
				assert.Equal(t, tt.addrs[tt.admitted%len(tt.addrs)], limited[0].Addr)
			})
		})
	}
}

// Whatever ends a grant makes room for another, and nothing makes room twice.
func TestPendingEnds(t *testing.T) {
	ends := map[string]func(f *fixture, a *devicegrant.Authorization){
		"redeemed": func(f *fixture, a *devicegrant.Authorization) {
			f.approve(a)
			f.requirePoll(a, nil)
			f.requirePoll(a, devicegrant.ErrInvalidGrant)
		},
		"denied": func(f *fixture, a *devicegrant.Authorization) {
			f.deny(a)
			f.requirePoll(a, devicegrant.ErrAccessDenied)
		},
		"reported": func(f *fixture, a *devicegrant.Authorization) {
			require.NoError(f.t, f.Report(f.t.Context(), f.review(a.UserCode, alice).Ticket, alice))
		},
		"revoked": func(f *fixture, a *devicegrant.Authorization) {
			n, err := f.Revoke(f.t.Context(), devicegrant.Filter{UserCode: a.UserCode})
			require.NoError(f.t, err)
			require.Equal(f.t, 1, n)
		},
		"revoked when approved": func(f *fixture, a *devicegrant.Authorization) {
			f.approve(a)
			n, err := f.Revoke(f.t.Context(), devicegrant.Filter{Subject: "alice"})
			require.NoError(f.t, err)
			require.Equal(f.t, 1, n)
		},
		"expired": func(_ *fixture, a *devicegrant.Authorization) {
			time.Sleep(a.ExpiresIn + a.ExpiresIn/16)
		},
	}
	quotas := map[string]func(*devicegrant.Issuance, *devicegrant.Client){
		"of a client":              func(i *devicegrant.Issuance, _ *devicegrant.Client) { i.PerClient.Pending = 3 },
		"of an address":            func(i *devicegrant.Issuance, _ *devicegrant.Client) { i.PerAddress.Pending = 3 },
		"of an address and client": func(_ *devicegrant.Issuance, c *devicegrant.Client) { c.AddressQuota.Pending = 3 },
	}
	for what, quota := range quotas {
		for how, end := range ends {
			t.Run(what+"/"+how, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					client := tv
					f := limited(t, func(i *devicegrant.Issuance) { quota(i, &client) })
					ask := func() (*devicegrant.Authorization, error) { return f.from(address(1), client) }
					first, err := ask()
					require.NoError(t, err)
					for range 2 {
						time.Sleep(5 * time.Second)
						_, err := ask()
						require.NoError(t, err)
					}
					_, err = ask()
					require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
					end(f, first)
					_, err = ask()
					require.NoError(t, err)
					if how != "expired" { // Then all three are over.
						_, err = ask()
						require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
					}
				})
			})
		}
	}
}

// A request that could not be stored is not counted.
func TestFailedCreateIsNotCounted(t *testing.T) {
	store := storetest.NewFaulty(memstore.New(0))
	f := newFixture(t, func(c *devicegrant.Config) {
		c.Store = store
		one := devicegrant.Quota{Rate: devicegrant.Limit{Burst: 1, Every: time.Hour}, Pending: 1}
		c.Issuance = devicegrant.Issuance{PerClient: one, PerAddress: one}
	})
	store.Inject(storetest.OpCreate, storetest.Fault{Times: 3, Err: errOutage})
	for range 3 {
		_, err := f.from(address(1), tv)
		require.ErrorIs(t, err, devicegrant.ErrTemporarilyUnavailable)
	}
	_, err := f.from(address(1), tv)
	require.NoError(t, err)
	_, err = f.from(address(1), tv)
	require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
}

// What a device reads that is refused: 429, Retry-After in whole seconds, and JSON. Its
// request leads to no call of the Store.
func TestTooManyRequestsOnTheWire(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		store := storetest.NewFaulty(memstore.New(0))
		store.Before = func(storetest.Op, int) { calls++ }
		f := newFixture(t, func(c *devicegrant.Config) {
			c.Store = store
			c.Issuance.PerAddress = devicegrant.Quota{Rate: devicegrant.Limit{Burst: 1, Every: 1500 * time.Millisecond}}
		})
		require.Equal(t, http.StatusOK, f.post("/device_authorization", "client_id=tv").Code)
		calls = 0
		w := f.post("/device_authorization", "client_id=tv")
		assert.Equal(t, http.StatusTooManyRequests, w.Code)
		assert.Equal(t, "2", w.Header().Get("Retry-After"))
		assert.Equal(t, "application/json", w.Header().Get("Content-Type"))
		assert.Equal(t, "no-store", w.Header().Get("Cache-Control"))
		assert.JSONEq(t, `{"error":"too_many_requests","error_description":"too many device authorization requests; try again later"}`, w.Body.String())
		assert.Zero(t, calls)
	})
}

// A flood of device codes that nobody made, or that are over, makes no call of the Store.
// From one address it is refused before it costs the host anything, and whoever polls for
// a genuine code from there is not harmed.
func TestFloodOfUnknownDeviceCodes(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls, authenticated := 0, 0
		store := storetest.NewFaulty(memstore.New(0))
		f := newFixture(t, func(c *devicegrant.Config) {
			c.Store = store
			c.AuthenticateClient = func(ctx context.Context, credentials devicegrant.Credentials) (devicegrant.Client, error) {
				authenticated++
				return authenticateClient(ctx, credentials)
			}
		})
		over := f.authorize()
		time.Sleep(time.Hour)
		genuine := f.authorize()
		store.Before = func(storetest.Op, int) { calls++ }

		const flood = 10_000
		answers := make(map[string]int)
		for i := range flood {
			forged := fmt.Sprintf("%05d%s", i, genuine.DeviceCode[5:])
			w := f.post("/token", tokenForm("tv", forged))
			answers[fmt.Sprint(w.Code, " ", errorCode(t, w), " ", w.Header().Get("Retry-After"))]++
			w = f.post("/token", tokenForm("tv", over.DeviceCode))
			answers[fmt.Sprint(w.Code, " ", errorCode(t, w), " ", w.Header().Get("Retry-After"))]++
		}
		assert.Equal(t, map[string]int{
			"400 invalid_grant ":      100,
			"429 too_many_requests 1": flood - 100,
			"400 expired_token ":      flood,
		}, answers)
		assert.Zero(t, calls, "of the Store")
		assert.Equal(t, 100+flood, authenticated, "clients")
		assert.Len(t, f.raised(devicegrant.EventUnknownDeviceCode), 100)
		assert.Len(t, f.raised(devicegrant.EventLimited), flood-100)

		w := f.post("/token", tokenForm("tv", genuine.DeviceCode))
		assert.Equal(t, "authorization_pending", errorCode(t, w))
		f.approve(genuine)
		w = f.post("/token", tokenForm("tv", genuine.DeviceCode))
		assert.Equal(t, http.StatusOK, w.Code)

		time.Sleep(time.Second)
		w = f.post("/token", tokenForm("tv", strings.Repeat("A", 64)))
		assert.Equal(t, "invalid_grant", errorCode(t, w), "once a second")
	})
}

// A code that was made here and that the Store has lost counts as unknown, too.
func TestPurgedDeviceCodesAreLimited(t *testing.T) {
	var stores storeSwitch
	f := newFixture(t, func(c *devicegrant.Config) {
		stores.Store = memstore.New(0)
		c.Store, c.Issuance.UnknownCodes = &stores, devicegrant.Limit{Burst: 2, Every: time.Hour}
	})
	a := f.authorize()
	stores.Store = memstore.New(0)
	poll := devicegrant.PollRequest{ClientID: "tv", DeviceCode: a.DeviceCode, Addr: address(1)}
	for _, want := range []error{devicegrant.ErrInvalidGrant, devicegrant.ErrInvalidGrant, devicegrant.ErrTooManyRequests} {
		_, err := f.Poll(t.Context(), poll)
		require.ErrorIs(t, err, want)
	}
	poll.DeviceCode = strings.Repeat("A", 64)
	_, err := f.Poll(t.Context(), poll)
	require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
	poll.Addr = netip.Addr{}
	_, err = f.Poll(t.Context(), poll)
	require.ErrorIs(t, err, devicegrant.ErrInvalidGrant, "where it came from is not known")
	assert.Len(t, f.raised(devicegrant.EventUnknownDeviceCode), 3)
	assert.Len(t, f.raised(devicegrant.EventLimited), 2)
}

// storeSwitch is a Store that can be replaced.
type storeSwitch struct{ devicegrant.Store }

// A callback that refuses with ErrTooManyRequests does not end a login.
func TestCallbacksCannotEndALoginWith429(t *testing.T) {
	f := newFixture(t, func(c *devicegrant.Config) {
		c.ProvenKey = func(http.ResponseWriter, *http.Request) (devicegrant.Key, error) {
			return devicegrant.Key{}, devicegrant.ErrTooManyRequests
		}
	})
	w := f.post("/token", tokenForm("tv", f.authorize().DeviceCode))
	assert.Equal(t, http.StatusBadRequest, w.Code)
	assert.Equal(t, "slow_down", errorCode(t, w))
	assert.Equal(t, http.StatusTooManyRequests, f.post("/device_authorization", "client_id=tv").Code)
}

// An answer that is given again ends its grant no second time.
func TestDeliveringAgainEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFixture(t, func(c *devicegrant.Config) {
			c.Store, c.Issuance = newLedger(), devicegrant.Issuance{PerClient: devicegrant.Quota{Pending: 3}}
		})
		a := f.authorize()
		f.approve(a)
		f.lose(a)
		time.Sleep(delivery)
		for range 3 {
			f.authorize()
		}
		f.collect(a)
		_, err := f.from(address(1), tv)
		require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
	})
}

// Where the Store cannot count, this server knows how many codes are live, and makes
// longer ones.
func TestCodesGetLongerWithoutACounter(t *testing.T) {
	f, _ := faultyFixture(t)
	for range 10_000 {
		require.Len(t, f.authorize().UserCode, 9)
	}
	assert.Len(t, strings.ReplaceAll(f.authorize().UserCode, "-", ""), 9)
}

// What a client has counted for itself makes no room for others at that address.
func TestAddressQuotasAreApart(t *testing.T) {
	f := limited(t, func(i *devicegrant.Issuance) { i.PerAddress.Pending = 1 })
	client := tv
	client.AddressQuota.Pending = 5
	a, err := f.from(address(1), client)
	require.NoError(t, err)
	_, err = f.from(address(1), cli)
	require.NoError(t, err)
	f.deny(a)
	_, err = f.from(address(1), cli)
	require.ErrorIs(t, err, devicegrant.ErrTooManyRequests)
}
