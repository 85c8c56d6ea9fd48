package crash

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/oauth2"

	"github.com/devicegrant/devicegrant"
)

const formType = "application/x-www-form-urlencoded"

// network is how devices and people reach the servers.
type network struct {
	addrs     []string
	turn      atomic.Uint32
	transport *http.Transport
	// retries repeats a request whose server died, as a host's load balancer does.
	// golang.org/x/oauth2 ends the login at any failure that is no OAuth error.
	retries bool
}

// next takes the servers in turn.
func (n *network) next() string { return n.addrs[int(n.turn.Add(1))%len(n.addrs)] }

// send sends a request to a server and reads the answer to the end.
func (n *network) send(r *http.Request, addr string) (*http.Response, []byte, error) {
	r = r.Clone(r.Context())
	r.URL.Host = addr
	body, err := r.GetBody()
	if err != nil {
		return nil, nil, err
	}
	r.Body = body
	resp, err := n.transport.RoundTrip(r)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	content, err := io.ReadAll(resp.Body)
	resp.Body = io.NopCloser(bytes.NewReader(content))
	return resp, content, err
}

// betweenTries is how long whoever could not reach a server waits.
func betweenTries() time.Duration { return 100*time.Millisecond + rand.N(300*time.Millisecond) }

// wait reports false when the context has ended.
func wait(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// device logs in with golang.org/x/oauth2, and its person approves.
type device struct {
	ctx     context.Context
	network *network
	twice   bool // each request goes to two servers at once
	style   oauth2.AuthStyle
	patient time.Duration // how long its person takes

	authorization *oauth2.DeviceAuthResponse
	approved      bool
	token         string // what golang.org/x/oauth2 returned
	code          string // the error that ended the login
	problem       error  // what must not happen

	mu        sync.Mutex
	tokens    map[string]int // each token of an answer, and how often it came
	slowDowns int
	pending   time.Time // when the last poll was sent that was told to wait
	odd       []string  // answers of a status that no device must see
}

// digest is what the Store knows the grant by.
func (d *device) digest() (digest devicegrant.DeviceCodeDigest) {
	raw, _ := base64.RawURLEncoding.DecodeString(d.authorization.DeviceCode) // Server.openDeviceCode checks it.
	return sha256.Sum256(raw)
}

func (d *device) config() *oauth2.Config {
	return &oauth2.Config{ClientID: clientID, Endpoint: oauth2.Endpoint{
		DeviceAuthURL: "http://login.example/device_authorization",
		TokenURL:      "http://login.example/token",
		AuthStyle:     d.style,
	}}
}

// login goes from the device's first request to its last.
func (d *device) login() {
	config := d.config()
	ctx := context.WithValue(d.ctx, oauth2.HTTPClient, &http.Client{Transport: d})
	if d.problem = d.authorize(ctx, config); d.problem != nil {
		return
	}
	var person sync.WaitGroup
	person.Go(d.approve)
	defer person.Wait()
	token, err := config.DeviceAccessToken(ctx, d.authorization)
	var refused *oauth2.RetrieveError
	switch {
	case err == nil:
		d.token = token.AccessToken
	case errors.As(err, &refused) && refused.ErrorCode != "":
		d.code = refused.ErrorCode
	default:
		d.problem = err
	}
}

// authorize asks for codes until the database is there.
func (d *device) authorize(ctx context.Context, config *oauth2.Config) error {
	for {
		authorization, err := config.DeviceAuth(ctx)
		if err == nil {
			d.authorization = authorization
			return nil
		}
		var refused *oauth2.RetrieveError
		if !errors.As(err, &refused) || refused.ErrorCode != "temporarily_unavailable" || !wait(d.ctx, interval) {
			return err
		}
	}
}

// approve is the person, who tries until the decision is made. An answer that got
// lost may have been a yes, with which the device has made its code free already.
func (d *device) approve() {
	form := url.Values{"user_code": {d.authorization.UserCode}, "subject": {d.authorization.UserCode}}.Encode()
	ok := wait(d.ctx, d.patient)
	for tries := 1; ok; tries++ {
		r, err := http.NewRequestWithContext(d.ctx, http.MethodPost, "http://login.example/approve", strings.NewReader(form))
		if err != nil {
			return
		}
		r.Header.Set("Content-Type", formType)
		resp, _, err := d.network.send(r, d.network.next())
		if err == nil && (resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusNotFound && tries > 1) {
			d.approved = true
			return
		}
		if err == nil && resp.StatusCode == http.StatusNotFound {
			return
		}
		ok = wait(d.ctx, betweenTries())
	}
}

// RoundTrip implements http.RoundTripper for golang.org/x/oauth2.
func (d *device) RoundTrip(r *http.Request) (*http.Response, error) {
	if !d.twice || r.URL.Path != "/token" {
		return d.request(r)
	}
	var second *http.Response
	var secondErr error
	var other sync.WaitGroup
	other.Go(func() { second, secondErr = d.request(r) })
	first, err := d.request(r)
	other.Wait()
	if err != nil || secondErr == nil && second.StatusCode == http.StatusOK {
		return second, secondErr
	}
	return first, nil
}

// request sends one request, and again if that fails and the network says so.
func (d *device) request(r *http.Request) (*http.Response, error) {
	for {
		sent := time.Now()
		resp, content, err := d.network.send(r, d.network.next())
		if err == nil {
			d.record(r, sent, resp, content)
			return resp, nil
		}
		if !d.network.retries || r.Context().Err() != nil || !wait(d.ctx, betweenTries()) {
			return nil, err
		}
	}
}

// record notes what the device was told.
func (d *device) record(r *http.Request, sent time.Time, resp *http.Response, content []byte) {
	var answer struct {
		Error       string
		AccessToken string `json:"access_token"`
	}
	err := json.Unmarshal(content, &answer)
	d.mu.Lock()
	defer d.mu.Unlock()
	refusal := http.StatusBadRequest
	if r.URL.Path == "/device_authorization" {
		refusal = http.StatusServiceUnavailable
	}
	if err != nil || resp.StatusCode != http.StatusOK && resp.StatusCode != refusal {
		d.odd = append(d.odd, fmt.Sprintf("%s %d %s", r.URL.Path, resp.StatusCode, content))
	}
	switch {
	case answer.AccessToken != "":
		d.tokens[answer.AccessToken]++
	case answer.Error == "slow_down":
		d.slowDowns++
	case answer.Error == "authorization_pending" && d.pending.Before(sent):
		d.pending = sent
	}
}

// pollAgain polls once more after the end, as somebody would who has stolen the code.
func (d *device) pollAgain() {
	if d.authorization == nil {
		return
	}
	form := url.Values{"grant_type": {devicegrant.GrantType}, "client_id": {clientID}, "device_code": {d.authorization.DeviceCode}}.Encode()
	r, err := http.NewRequestWithContext(d.ctx, http.MethodPost, "http://login.example/token", strings.NewReader(form))
	if err == nil {
		r.Header.Set("Content-Type", formType)
		_, err = d.request(r)
	}
	d.problem = errors.Join(d.problem, err)
}

// newDevices returns devices of every kind.
func newDevices(ctx context.Context, n *network, random *rand.Rand, count int) []*device {
	styles := []oauth2.AuthStyle{oauth2.AuthStyleInParams, oauth2.AuthStyleAutoDetect, oauth2.AuthStyleInParams, oauth2.AuthStyleInHeader}
	devices := make([]*device, count)
	for i := range devices {
		devices[i] = &device{
			ctx:     ctx,
			network: n,
			twice:   i%4 == 0,
			style:   styles[i%len(styles)],
			patient: time.Duration(random.Int64N(int64(2 * interval))),
			tokens:  map[string]int{},
		}
	}
	return devices
}
