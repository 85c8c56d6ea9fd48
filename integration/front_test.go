package integration

import (
	"bytes"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// front is a reverse proxy before a server, which records what a client polls. The
// verification page is not behind it.
type front struct {
	*recorder
	origin string
}

// newFront returns one that ends with the test. With forestall, the client's first poll
// comes too early.
func newFront(t *testing.T, s *authServer, forestall bool) *front {
	t.Helper()
	target, err := url.Parse(s.origin)
	require.NoError(t, err)
	next := newClient(t).Transport
	if forestall {
		next = &forestaller{next: next}
	}
	f := &front{recorder: newRecorder(next)}
	proxy := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(target) },
		Transport: f.recorder,
	})
	t.Cleanup(proxy.Close)
	f.origin = proxy.URL
	return f
}

// polls returns what was answered up to the token, if there is one. Later requests are not
// for this grant.
func (f *front) polls() []recorded {
	seen := f.all()
	if i := slices.IndexFunc(seen, func(r recorded) bool { return r.code == "" }); i >= 0 {
		return seen[:i+1]
	}
	return seen
}

// forestallTime is between what the server takes for one poll sent twice and what it lets
// pass as a timer's drift, with an interval of five seconds.
const forestallTime = 500 * time.Millisecond

// forestaller has the first token request come too early, through no fault of the client's:
// it sends a copy ahead and has the request itself wait.
type forestaller struct {
	next http.RoundTripper
	done atomic.Bool
}

func (f *forestaller) RoundTrip(r *http.Request) (*http.Response, error) {
	if !strings.HasSuffix(r.URL.Path, "/token") || f.done.Swap(true) {
		return f.next.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	ahead := r.Clone(r.Context())
	ahead.Body = io.NopCloser(bytes.NewReader(body))
	resp, err := f.next.RoundTrip(ahead)
	if err != nil {
		return nil, err
	}
	resp.Body.Close()
	time.Sleep(forestallTime) // The pace is what is tested.
	again := r.Clone(r.Context())
	again.Body = io.NopCloser(bytes.NewReader(body))
	return f.next.RoundTrip(again)
}
