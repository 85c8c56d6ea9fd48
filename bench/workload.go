package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"

	"github.com/devicegrant/devicegrant"
)

// server is an authorization server with the device grant, as the workloads use it.
type server struct {
	authorization, token http.Handler

	// lookUp finds a pending grant for a person by its user code; approve does so, too,
	// and says yes.
	lookUp, approve func(ctx context.Context, userCode string) error
}

// opener makes a server in which nothing is pending.
type opener func() (*server, error)

// workload is an operation that contestants are compared by. The floor comes first.
type workload struct {
	name, what  string
	contestants []contestant
}

// contestant is one way to carry out a workload's operation.
type contestant struct {
	name string
	peer bool // another server, and not the floor or one of ours

	// open returns the operation on a new server with as many grants pending. It is nil
	// where a server has no such thing.
	open func(grants int) (operation, error)
}

// operation is what is measured. It fails when the answer is not the one expected.
type operation func() error

// The contestants, but for those that only one workload has.
const (
	floorName   = "floor"
	oursName    = "devicegrant"
	coreName    = "devicegrant, Server.Poll"
	zitadelName = "zitadel/oidc"
)

func workloads() []workload {
	return []workload{
		{pollWorkload, "A poll answered authorization_pending. Server.Poll is the same without HTTP.", []contestant{
			{floorName, false, polls(openFloor, 0, "authorization_pending")},
			{oursName, false, polls(openOnTime, 0, "authorization_pending")},
			{coreName, false, corePolls},
			{zitadelName, true, polls(openZitadel, 0, "authorization_pending")},
		}},
		{"slow_down", "A poll that is early. The floor compares with the time of the poll before.", []contestant{
			{floorName, false, polls(openPacedFloor, 1, "slow_down")},
			{oursName, false, polls(openEarly, 2, "slow_down")},
			{zitadelName, true, nil},
		}},
		{authorizationWorkload, "A device authorization request. The floor makes both codes and stores digests of them.", []contestant{
			{floorName, false, authorizations(openFloor)},
			{oursName, false, authorizations(openOnTime)},
			{zitadelName, true, authorizations(openZitadel)},
		}},
		{"User code look-up", "Without HTTP. Ours normalizes the code, charges the limits on guesses, binds the code to the browser's session " +
			"and seals a ticket for the decision; the others look into a map.", []contestant{
			{floorName, false, lookUps(openFloor)},
			{oursName, false, lookUps(openOnTime)},
			{zitadelName, true, lookUps(openZitadel)},
		}},
		{"Whole login", "A device authorization request, a poll answered authorization_pending, look-up and approval without HTTP, " +
			"and the poll that gets an opaque access token.", []contestant{
			{floorName, false, logins(openFloor)},
			{oursName, false, logins(openOnTime)},
			{zitadelName, true, logins(openZitadel)},
		}},
	}
}

// What the targets are about.
const (
	pollWorkload          = "Pending poll"
	authorizationWorkload = "Device authorization"
)

// polls returns an operation that polls each of the grants in turn, by then each polled
// some times before, and expects an error.
func polls(open opener, before int, code string) func(int) (operation, error) {
	want := []byte(`"error":"` + code + `"`)
	return func(grants int) (operation, error) {
		s, pending, err := openWith(open, grants)
		if err != nil {
			return nil, err
		}
		bodies := make([]string, grants)
		for i := range bodies {
			bodies[i] = pollBody(pending[i].deviceCode)
		}
		for range before {
			for _, body := range bodies {
				serveForm(s.token, body)
			}
		}
		next := inTurn(bodies)
		return func() error { return check(serveForm(s.token, next()), http.StatusBadRequest, want) }, nil
	}
}

func authorizations(open opener) func(int) (operation, error) {
	return func(grants int) (operation, error) {
		s, _, err := openWith(open, grants)
		return func() error { return check(s.authorize(), http.StatusOK, deviceCodeMember) }, err
	}
}

func lookUps(open opener) func(int) (operation, error) {
	return func(grants int) (operation, error) {
		s, pending, err := openWith(open, grants)
		if err != nil {
			return nil, err
		}
		next := inTurn(pending)
		return func() error { return s.lookUp(context.Background(), next().userCode) }, nil
	}
}

func logins(open opener) func(int) (operation, error) {
	return func(grants int) (operation, error) {
		s, _, err := openWith(open, grants)
		return func() error { return s.login(context.Background()) }, err
	}
}

// login is everything from the device's request to its token.
func (s *server) login(ctx context.Context) error {
	g, err := s.newGrant()
	if err != nil {
		return err
	}
	body := pollBody(g.deviceCode)
	if err := check(serveForm(s.token, body), http.StatusBadRequest, pendingMember); err != nil {
		return err
	}
	if err := s.approve(ctx, g.userCode); err != nil {
		return err
	}
	return check(serveForm(s.token, body), http.StatusOK, accessTokenMember)
}

// What answers have in them.
var (
	deviceCodeMember  = []byte(`"device_code":"`)
	pendingMember     = []byte(`"error":"authorization_pending"`)
	accessTokenMember = []byte(`"access_token":"`)
)

// grant is what a device knows of one.
type grant struct{ deviceCode, userCode string }

// openWith returns a server with pending grants.
func openWith(open opener, grants int) (*server, []grant, error) {
	s, err := open()
	if err != nil {
		return nil, nil, err
	}
	pending := make([]grant, grants)
	for i := range pending {
		if pending[i], err = s.newGrant(); err != nil {
			return nil, nil, err
		}
	}
	return s, pending, nil
}

func (s *server) newGrant() (grant, error) {
	w := s.authorize()
	if err := check(w, http.StatusOK, deviceCodeMember); err != nil {
		return grant{}, err
	}
	body := w.Body.String()
	return grant{member(body, "device_code"), member(body, "user_code")}, nil
}

func (s *server) authorize() *httptest.ResponseRecorder {
	return serveForm(s.authorization, "client_id=tv&scope=profile+email")
}

func pollBody(deviceCode string) string {
	return "grant_type=" + url.QueryEscape(devicegrant.GrantType) + "&client_id=tv&device_code=" + url.QueryEscape(deviceCode)
}

// serveForm sends a form as cheaply as a request can be made.
func serveForm(h http.Handler, body string) *httptest.ResponseRecorder {
	r := &http.Request{
		Method:     http.MethodPost,
		URL:        formURL,
		Header:     http.Header{"Content-Type": {"application/x-www-form-urlencoded"}},
		RemoteAddr: "192.0.2.1:1234",
		Body:       io.NopCloser(strings.NewReader(body)),
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// formURL is where forms are sent to: some handlers look for a query.
var formURL = &url.URL{Path: "/"}

// check fails when an answer has another status, or has not got something in it.
func check(w *httptest.ResponseRecorder, status int, part []byte) error {
	if w.Code != status || !bytes.Contains(w.Body.Bytes(), part) {
		return fmt.Errorf("expected %d with %s, not %d with %s", status, part, w.Code, w.Body)
	}
	return nil
}

// member returns a string of a JSON object, as every contestant writes it.
func member(object, name string) string {
	_, value, _ := strings.Cut(object, `"`+name+`":"`)
	value, _, _ = strings.Cut(value, `"`)
	return value
}

// inTurn returns a function that returns one after the other, again and again.
func inTurn[T any](all []T) func() T {
	i := -1
	return func() T {
		i = (i + 1) % len(all)
		return all[i]
	}
}
