package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"sync"
	"time"
)

// floor is the grant as it is written down in an afternoon: net/http, encoding/json and
// two maps. It checks neither client nor deadline, and limits nothing. Others are
// compared with what it takes.
type floor struct {
	paced bool // polls are answered slow_down when they are early

	mu      sync.Mutex
	devices map[[sha256.Size]byte]*floorGrant
	users   map[[sha256.Size]byte]*floorGrant
}

type floorGrant struct {
	device, user [sha256.Size]byte
	approved     bool
	polled       time.Time
}

// floorInterval is longer than a run.
const floorInterval = 10 * time.Minute

func openFloor() (*server, error) { return newFloor(false), nil }

func openPacedFloor() (*server, error) { return newFloor(true), nil }

func newFloor(paced bool) *server {
	f := &floor{
		paced:   paced,
		devices: make(map[[sha256.Size]byte]*floorGrant),
		users:   make(map[[sha256.Size]byte]*floorGrant),
	}
	return &server{
		authorization: http.HandlerFunc(f.serveAuthorization),
		token:         http.HandlerFunc(f.serveToken),
		lookUp:        func(_ context.Context, userCode string) error { return f.find(userCode, func(*floorGrant) {}) },
		approve: func(_ context.Context, userCode string) error {
			return f.find(userCode, func(g *floorGrant) { g.approved = true })
		},
	}
}

func (f *floor) serveAuthorization(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil || r.PostForm.Get("client_id") == "" {
		writeFloor(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
		return
	}
	random := make([]byte, 32)
	_, _ = rand.Read(random) // It never fails.
	deviceCode := base64.RawURLEncoding.EncodeToString(random)
	userCode := rand.Text()[:8]
	g := &floorGrant{device: sha256.Sum256([]byte(deviceCode)), user: sha256.Sum256([]byte(userCode))}
	f.mu.Lock()
	f.devices[g.device], f.users[g.user] = g, g
	f.mu.Unlock()
	writeFloor(w, http.StatusOK, map[string]any{
		"device_code": deviceCode, "user_code": userCode,
		"verification_uri": "https://example.com/device", "verification_uri_complete": "https://example.com/device?user_code=" + userCode,
		"expires_in": 900, "interval": 5,
	})
}

func (f *floor) serveToken(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		writeFloor(w, http.StatusBadRequest, map[string]string{"error": "invalid_request"})
		return
	}
	code := f.poll(sha256.Sum256([]byte(r.PostForm.Get("device_code"))))
	if code != "" {
		writeFloor(w, http.StatusBadRequest, map[string]string{"error": code})
		return
	}
	writeFloor(w, http.StatusOK, map[string]any{"access_token": rand.Text(), "token_type": "Bearer", "expires_in": 3600})
}

// poll returns the error that a poll is answered, or none once, when the grant is
// approved.
func (f *floor) poll(device [sha256.Size]byte) (code string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok := f.devices[device]
	switch {
	case !ok:
		return "invalid_grant"
	case g.approved:
		delete(f.devices, g.device)
		delete(f.users, g.user)
		return ""
	case f.paced && g.early(time.Now()):
		return "slow_down"
	default:
		return "authorization_pending"
	}
}

func (g *floorGrant) early(now time.Time) bool {
	early := now.Sub(g.polled) < floorInterval
	g.polled = now
	return early
}

// find does something with the grant that has a user code.
func (f *floor) find(userCode string, do func(*floorGrant)) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	g, ok := f.users[sha256.Sum256([]byte(userCode))]
	if !ok {
		return errors.New("floor: no such user code")
	}
	do(g)
	return nil
}

func writeFloor(w http.ResponseWriter, status int, answer any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(answer) // A client that has gone cannot be told.
}
