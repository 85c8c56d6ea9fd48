package main

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// testGrants is how many grants are pending in tests.
const testGrants = 20

// Whoever answers something else would be measured for nothing.
func TestEveryContestantAnswersAsExpected(t *testing.T) {
	for _, load := range workloads() {
		require.Equal(t, floorName, load.contestants[0].name)
		for _, c := range load.contestants {
			t.Run(load.name+"/"+c.name, func(t *testing.T) {
				if c.open == nil {
					assert.Equal(t, "slow_down "+zitadelName, load.name+" "+c.name)
					return
				}
				op, err := c.open(testGrants)
				require.NoError(t, err)
				for range 3 * testGrants {
					require.NoError(t, op())
				}
			})
		}
	}
}

var openers = map[string]opener{
	floorName: openFloor, oursName: openOnTime, zitadelName: openZitadel,
	"paced floor": openPacedFloor, "early devicegrant": openEarly,
}

// TestLogin decodes what the workloads only search, of every server.
func TestLogin(t *testing.T) {
	for name, open := range openers {
		t.Run(name, func(t *testing.T) {
			s, _, err := openWith(open, testGrants)
			require.NoError(t, err)
			a := decode(t, s.authorize(), http.StatusOK)
			deviceCode, userCode := a["device_code"].(string), a["user_code"].(string)
			assert.GreaterOrEqual(t, len(deviceCode), 22)
			assert.GreaterOrEqual(t, len(userCode), 8)
			assert.Contains(t, a["verification_uri_complete"], userCode)
			assert.EqualValues(t, 900, a["expires_in"])

			poll := pollBody(deviceCode)
			assert.Equal(t, "authorization_pending", decode(t, serveForm(s.token, poll), http.StatusBadRequest)["error"])
			require.NoError(t, s.lookUp(t.Context(), userCode))
			require.NoError(t, s.approve(t.Context(), userCode))
			assert.NotEmpty(t, decode(t, serveForm(s.token, poll), http.StatusOK)["access_token"])

			assert.Error(t, s.lookUp(t.Context(), "BBBB-BBBB"))
			assert.Error(t, s.approve(t.Context(), "BBBB-BBBB"))
			decode(t, serveForm(s.token, pollBody("x")), http.StatusBadRequest)
		})
	}
}

// The workloads notice what is wrong.
func TestWrongAnswers(t *testing.T) {
	for name, open := range map[string]func(int) (operation, error){
		"another error": polls(openOnTime, 0, "slow_down"),
		"never early":   polls(openEarly, 0, "slow_down"),
		"no token":      logins(forgetful),
	} {
		t.Run(name, func(t *testing.T) {
			op, err := open(testGrants)
			require.NoError(t, err)
			assert.Error(t, op())
		})
	}
	_, _, err := openWith(func() (*server, error) { return &server{authorization: http.NotFoundHandler()}, nil }, 1)
	assert.Error(t, err)
}

// forgetful opens a server that forgets what people decide.
func forgetful() (*server, error) {
	s, err := openFloor()
	s.approve = func(context.Context, string) error { return nil }
	return s, err
}

func TestCheck(t *testing.T) {
	w := httptest.NewRecorder()
	w.WriteHeader(http.StatusBadRequest)
	_, _ = w.WriteString(`{"error":"slow_down"}`)
	assert.NoError(t, check(w, http.StatusBadRequest, []byte(`"slow_down"`)))
	assert.Error(t, check(w, http.StatusOK, []byte(`"slow_down"`)))
	assert.Error(t, check(w, http.StatusBadRequest, []byte(`"authorization_pending"`)))
}

func TestMember(t *testing.T) {
	const object = `{"device_code":"a","user_code":"b-c","interval":5}`
	assert.Equal(t, "a", member(object, "device_code"))
	assert.Equal(t, "b-c", member(object, "user_code"))
	assert.Empty(t, member(object, "interval"))
}

func decode(t *testing.T, w *httptest.ResponseRecorder, status int) (answer map[string]any) {
	t.Helper()
	require.Equal(t, status, w.Code, w.Body)
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body)
	return answer
}
