package devicegrant_test

import (
	"bytes"
	"context"
	"html/template"
	"math"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
)

func validConfig() devicegrant.Config {
	return devicegrant.Config{
		Store:              memstore.New(0),
		Keys:               [][]byte{bytes.Repeat([]byte{1}, 32)},
		VerificationURI:    "https://example.com/device",
		AuthenticateClient: authenticateClient,
		SignedIn:           func(http.ResponseWriter, *http.Request, string) (string, bool) { return "", false },
		IssueToken:         func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) { return nil, nil },
	}
}

// New refuses what is unsafe or incomplete, and says which setting to change.
func TestNewRefuses(t *testing.T) {
	_, err := devicegrant.New(validConfig())
	require.NoError(t, err)
	for name, tt := range map[string]struct {
		change func(*devicegrant.Config)
		want   []string
	}{
		"no store":          {func(c *devicegrant.Config) { c.Store = nil }, []string{"Store is required"}},
		"no keys":           {func(c *devicegrant.Config) { c.Keys = nil }, []string{"Keys is empty", "32 random bytes"}},
		"a short key":       {func(c *devicegrant.Config) { c.Keys = [][]byte{[]byte("secret")} }, []string{"Keys[0] has 6 bytes"}},
		"no client lookup":  {func(c *devicegrant.Config) { c.AuthenticateClient = nil }, []string{"AuthenticateClient is required"}},
		"no login":          {func(c *devicegrant.Config) { c.SignedIn = nil }, []string{"SignedIn is required"}},
		"no issuer":         {func(c *devicegrant.Config) { c.IssueToken = nil }, []string{"IssueToken is required"}},
		"no URI":            {func(c *devicegrant.Config) { c.VerificationURI = "" }, []string{"VerificationURI", "absolute URL"}},
		"relative URI":      {func(c *devicegrant.Config) { c.VerificationURI = "/device" }, []string{"VerificationURI", "absolute URL"}},
		"URI with fragment": {func(c *devicegrant.Config) { c.VerificationURI = "https://example.com/device#x" }, []string{"VerificationURI"}},
		"plain http":        {func(c *devicegrant.Config) { c.VerificationURI = "http://example.com/device" }, []string{"VerificationURI", "https"}},
		"other scheme":      {func(c *devicegrant.Config) { c.VerificationURI = "ftp://localhost/device" }, []string{"VerificationURI", "https"}},
		"split second":      {func(c *devicegrant.Config) { c.Interval = 1500 * time.Millisecond }, []string{"Interval is 1.5s", "whole seconds"}},
		"negative":          {func(c *devicegrant.Config) { c.Lifetime = -time.Second }, []string{"Lifetime is -1s"}},
		"short life":        {func(c *devicegrant.Config) { c.Lifetime, c.Interval = 2*time.Second, 5*time.Second }, []string{"Lifetime (2s) is shorter than Interval (5s)"}},
		"hasty claim":       {func(c *devicegrant.Config) { c.ClaimTimeout = time.Millisecond }, []string{"ClaimTimeout is 1ms"}},
		"several at once":   {func(c *devicegrant.Config) { c.Store, c.Interval, c.Keys = nil, -1, nil }, []string{"Store", "Interval", "Keys"}},

		"tiny alphabet":   {userCode("A", 8), []string{"UserCode.Alphabet"}},
		"lower case":      {userCode("abcdefgh", 20), []string{"UserCode.Alphabet", `'a'`}},
		"character twice": {userCode("ABCDEFGHA", 20), []string{"UserCode.Alphabet", `'A'`}},
		"not ASCII":       {userCode("ABCDÉ", 20), []string{"UserCode.Alphabet"}},
		"no length":       {userCode(devicegrant.Base20.Alphabet, 0), []string{"UserCode.Length is 0"}},
		"endless":         {userCode(devicegrant.Base20.Alphabet, 33), []string{"UserCode.Length is 33"}},
		"a template beside no code to show": {func(c *devicegrant.Config) {
			c.UserCode = devicegrant.UserCodeFormat{Alphabet: "AB", Length: -1}
			c.Page.Template = template.Must(template.New("").Parse("page"))
		}, []string{"UserCode.Length"}},
		"a template that is no page": {func(c *devicegrant.Config) { c.Page.Template = template.Must(template.New("").Parse("page")) }, []string{"Page.Template", "user_code"}},
		"negative group":             {func(c *devicegrant.Config) { c.UserCode = devicegrant.Base20; c.UserCode.Group = -1 }, []string{"UserCode.Group"}},
		"six digits":                 {userCode("0123456789", 6), []string{"too easy to guess", "UserCode.Length to 11 or more", "Guessing.PerAddress", "Lifetime"}},
		"nine digits":                {userCode("0123456789", 9), []string{"may try 5 in a lifetime of 15m0s", "UserCode.Length to 11"}},
		"seven of base 20":           {userCode(devicegrant.Base20.Alphabet, 7), []string{"UserCode.Length to 8"}},
		"more guesses":               {func(c *devicegrant.Config) { c.Guessing.PerAddress = devicegrant.Limit{Burst: 6, Every: time.Hour} }, []string{"Guessing.PerAddress", "UserCode.Length to 9"}},
		"more lifetime": {func(c *devicegrant.Config) {
			c.Guessing.PerAddress = devicegrant.Limit{Burst: 3, Every: 10 * time.Minute}
			c.Lifetime = time.Hour
		}, []string{"may try 6 in a lifetime of 1h0m0s", "Lifetime"}},
		"more live codes": {func(c *devicegrant.Config) { c.Guessing.MaxPending = 100_000 }, []string{"2500 guesses", "100000 live codes", "Guessing.MaxPending", "Guessing.Global", "UserCode.Length to 9"}},
		"as good as unlimited": {func(c *devicegrant.Config) {
			c.Guessing.PerAddress.Burst, c.Guessing.PerAddress.Every = math.MaxInt, time.Minute
		}, []string{"Guessing.PerAddress"}},
		"no burst":  {func(c *devicegrant.Config) { c.Guessing.PerAddress = devicegrant.Limit{Every: time.Second} }, []string{"Guessing.PerAddress", "Burst"}},
		"no refill": {func(c *devicegrant.Config) { c.Guessing.Global = devicegrant.Limit{Burst: 1} }, []string{"Guessing.Global: Burst must be above zero, and Every"}},
		"burst for ever": {issuance(func(i *devicegrant.Issuance) {
			i.PerClient.Rate = devicegrant.Limit{Burst: math.MaxInt, Every: time.Second}
		}), []string{"Issuance.PerClient", "Rate.Burst"}},
		"client without a rate":  {issuance(func(i *devicegrant.Issuance) { i.PerClient.Rate.Burst = 1 }), []string{"Issuance.PerClient", "Rate.Every"}},
		"less than none pending": {issuance(func(i *devicegrant.Issuance) { i.PerAddress.Pending = -1 }), []string{"Issuance.PerAddress", "Pending"}},
		"a network's quota": {issuance(func(i *devicegrant.Issuance) {
			i.Networks = map[netip.Prefix]devicegrant.Quota{netip.MustParsePrefix("10.0.0.0/8"): {Pending: -1}}
		}), []string{"Issuance.Networks[10.0.0.0/8]", "Pending"}},
		"an address for a network": {issuance(func(i *devicegrant.Issuance) {
			i.Networks = map[netip.Prefix]devicegrant.Quota{netip.MustParsePrefix("10.0.0.1/8"): {}}
		}), []string{"Issuance.Networks", "10.0.0.1/8", "Masked"}},
		"an IPv4 network as IPv6": {issuance(func(i *devicegrant.Issuance) {
			i.Networks = map[netip.Prefix]devicegrant.Quota{netip.MustParsePrefix("::ffff:10.0.0.0/104"): {}}
		}), []string{"Issuance.Networks"}},
		"no network":       {issuance(func(i *devicegrant.Issuance) { i.Networks = map[netip.Prefix]devicegrant.Quota{{}: {}} }), []string{"Issuance.Networks"}},
		"no unknown codes": {issuance(func(i *devicegrant.Issuance) { i.UnknownCodes.Every = time.Second }), []string{"Issuance.UnknownCodes"}},
		"negative bound":   {func(c *devicegrant.Config) { c.Guessing.MaxAddressChance = -1 }, []string{"MaxAddressChance"}},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := validConfig()
			tt.change(&cfg)
			_, err := devicegrant.New(cfg)
			require.Error(t, err)
			for _, want := range tt.want {
				assert.ErrorContains(t, err, want)
			}
		})
	}
}

func issuance(change func(*devicegrant.Issuance)) func(*devicegrant.Config) {
	return func(c *devicegrant.Config) { change(&c.Issuance) }
}

func userCode(alphabet string, length int) func(*devicegrant.Config) {
	return func(c *devicegrant.Config) {
		c.UserCode = devicegrant.UserCodeFormat{Alphabet: alphabet, Length: length}
	}
}

func TestNewAccepts(t *testing.T) {
	for name, change := range map[string]func(*devicegrant.Config){
		"Digits":         func(c *devicegrant.Config) { c.UserCode = devicegrant.Digits },
		"Base32":         func(c *devicegrant.Config) { c.UserCode = devicegrant.Base32 },
		"a long life":    func(c *devicegrant.Config) { c.Lifetime = time.Hour },
		"a short life":   func(c *devicegrant.Config) { c.Lifetime, c.Interval = 3*time.Second, time.Second },
		"loopback":       func(c *devicegrant.Config) { c.VerificationURI = "http://127.0.0.1:8080/device" },
		"loopback, IPv6": func(c *devicegrant.Config) { c.VerificationURI = "http://[::1]:8080/device" },
		"localhost":      func(c *devicegrant.Config) { c.VerificationURI = "http://localhost:8080/device" },
	} {
		cfg := validConfig()
		change(&cfg)
		_, err := devicegrant.New(cfg)
		assert.NoError(t, err, name)
	}
}

// The arithmetic of RFC 8628 section 5.1: eight characters of base 20 bear five
// guesses at 2^-32.
func TestGuessChances(t *testing.T) {
	c := validConfig()
	got := c.GuessChances()
	assert.InEpsilon(t, 5/25.6e9, got.PerAddress, 1e-9)
	assert.InEpsilon(t, 2500*10_000/25.6e9, got.GlobalHits, 1e-9)
	assert.LessOrEqual(t, got.PerAddress, 1.0/(1<<32))
	c.Guessing.PerAddress = devicegrant.Limit{Burst: 1, Every: time.Minute} // 0, 1, 3, 7 and 15 minutes, and the reserve.
	assert.InEpsilon(t, 6/25.6e9, c.GuessChances().PerAddress, 1e-9)
}
