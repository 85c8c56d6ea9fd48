package otel_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	"go.opentelemetry.io/otel/sdk/metric/metricdata/metricdatatest"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/memstore"
	"github.com/devicegrant/devicegrant/otel"
)

// collected is a Telemetry and what it has recorded.
type collected struct {
	*otel.Telemetry
	reader *sdkmetric.ManualReader
	spans  *tracetest.SpanRecorder
	traces *sdktrace.TracerProvider
}

func collect(t testing.TB) collected {
	c := collected{reader: sdkmetric.NewManualReader(), spans: tracetest.NewSpanRecorder()}
	c.traces = sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(c.spans))
	var err error
	c.Telemetry, err = otel.New(otel.Config{
		MeterProvider:  sdkmetric.NewMeterProvider(sdkmetric.WithReader(c.reader)),
		TracerProvider: c.traces,
	})
	require.NoError(t, err)
	return c
}

// metrics returns what was measured, by name.
func (c collected) metrics(t testing.TB) map[string]metricdata.Metrics {
	var all metricdata.ResourceMetrics
	require.NoError(t, c.reader.Collect(t.Context(), &all))
	byName := make(map[string]metricdata.Metrics)
	for _, scope := range all.ScopeMetrics {
		for _, m := range scope.Metrics {
			byName[m.Name] = m
		}
	}
	return byName
}

var (
	asked = time.Date(2026, 11, 25, 20, 15, 0, 0, time.UTC)
	grant = uuid.UUID{1, 2, 3}
)

// event has everything in it that an event can have.
func event(t devicegrant.EventType) devicegrant.Event {
	return devicegrant.Event{
		Type: t, Time: asked.Add(42 * time.Second), Grant: grant, CreatedAt: asked, ClientID: "tv", Subject: "alice-the-subject",
		Addr: netip.MustParseAddr("192.0.2.77"), Count: 7, Err: errors.New("text of an error"),
		Pressure: devicegrant.GuessPressure{Wrong: 150, Burst: 250},
	}
}

// eventTypes are all that there are, by the source.
func eventTypes(t *testing.T) (all []devicegrant.EventType) {
	file, err := parser.ParseFile(token.NewFileSet(), "../events.go", nil, 0)
	require.NoError(t, err)
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if ok && len(spec.Values) == 1 && strings.HasPrefix(spec.Names[0].Name, "Event") {
			if name, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value); assert.NoError(t, err) {
				all = append(all, devicegrant.EventType(name))
			}
		}
		return true
	})
	require.NotEmpty(t, all)
	return all
}

// Every event is counted by its type and client; those that end a grant are a span from
// its beginning; and those that take a person or a login's time are measured.
func TestEveryEvent(t *testing.T) {
	ends := []string{"redeemed", "denied", "reported", "left", "revoked"}
	decided := []string{"approved", "denied", "reported", "left"}
	for _, kind := range eventTypes(t) {
		t.Run(string(kind), func(t *testing.T) {
			c := collect(t)
			c.OnEvent(t.Context(), event(kind))
			metrics := c.metrics(t)
			attributes := attribute.NewSet(attribute.String("devicegrant.event", string(kind)), attribute.String("devicegrant.client_id", "tv"))

			metricdatatest.AssertEqual(t, metricdata.Sum[int64]{
				Temporality: metricdata.CumulativeTemporality, IsMonotonic: true,
				DataPoints: []metricdata.DataPoint[int64]{{Attributes: attributes, Value: 1}},
			}, metrics["devicegrant.events"].Data.(metricdata.Sum[int64]), metricdatatest.IgnoreTimestamp(), metricdatatest.IgnoreExemplars())
			expected := map[string]bool{
				"devicegrant.events":            true,
				"devicegrant.decision.duration": contains(decided, kind),
				"devicegrant.login.duration":    kind == devicegrant.EventRedeemed,
				"devicegrant.purged":            kind == devicegrant.EventPurged,
			}
			for name, want := range expected {
				assert.Equal(t, want, metrics[name].Name != "", name)
			}
			for _, name := range []string{"devicegrant.decision.duration", "devicegrant.login.duration"} {
				if expected[name] {
					point := metrics[name].Data.(metricdata.Histogram[float64]).DataPoints[0]
					assert.InDelta(t, 42, point.Sum, 1e-9)
					assert.Equal(t, attributes, point.Attributes)
				}
			}
			spans := c.spans.Ended()
			if !contains(ends, kind) {
				assert.Empty(t, spans)
				return
			}
			require.Len(t, spans, 1)
			assert.Equal(t, "devicegrant.login", spans[0].Name())
			assert.Equal(t, asked, spans[0].StartTime())
			assert.Equal(t, asked.Add(42*time.Second), spans[0].EndTime())
			assert.ElementsMatch(t, []attribute.KeyValue{
				attribute.String("devicegrant.event", string(kind)), attribute.String("devicegrant.client_id", "tv"),
				attribute.String("devicegrant.grant", grant.String()),
			}, spans[0].Attributes())
		})
	}
}

func contains(list []string, kind devicegrant.EventType) bool {
	return slices.Contains(list, string(kind))
}

func TestValues(t *testing.T) {
	c := collect(t)
	c.OnEvent(t.Context(), event(devicegrant.EventPurged))
	metrics := c.metrics(t)
	assert.EqualValues(t, 7, metrics["devicegrant.purged"].Data.(metricdata.Sum[int64]).DataPoints[0].Value)

	c = collect(t)
	c.OnEvent(t.Context(), devicegrant.Event{Type: devicegrant.EventWrongUserCode, Time: asked})
	point := c.metrics(t)["devicegrant.events"].Data.(metricdata.Sum[int64]).DataPoints[0]
	assert.Equal(t, attribute.NewSet(attribute.String("devicegrant.event", "wrong_user_code")), point.Attributes, "nothing that is empty")
}

// The span of the request in which something happens has it as an event, and is linked to
// the login that it ends.
func TestSpanOfTheRequest(t *testing.T) {
	c := collect(t)
	ctx, request := c.traces.Tracer("host").Start(t.Context(), "POST /token")
	c.OnEvent(ctx, event(devicegrant.EventIssueFailed))
	redeemed := event(devicegrant.EventRedeemed)
	redeemed.Err = nil
	c.OnEvent(ctx, redeemed)
	request.End()

	spans := c.spans.Ended()
	require.Len(t, spans, 2)
	login, host := spans[0], spans[1]
	assert.NotEqual(t, host.SpanContext().TraceID(), login.SpanContext().TraceID())
	assert.False(t, login.Parent().IsValid())
	require.Len(t, login.Links(), 1)
	assert.Equal(t, host.SpanContext(), login.Links()[0].SpanContext)
	require.Len(t, host.Events(), 2)
	assert.Equal(t, "devicegrant.issue_failed", host.Events()[0].Name)
	assert.Equal(t, redeemed.Time, host.Events()[0].Time)
	assert.Equal(t, "devicegrant.redeemed", host.Events()[1].Name)
	assert.Equal(t, sdktrace.Status{Code: codes.Error, Description: "devicegrant.issue_failed"}, host.Status())
}

// Of whom and where from, and of what an error says, nothing leaves.
func TestNothingPersonal(t *testing.T) {
	c := collect(t)
	ctx, request := c.traces.Tracer("host").Start(t.Context(), "request")
	for _, kind := range eventTypes(t) {
		c.OnEvent(ctx, event(kind))
	}
	request.End()
	dump := c.dump(t)
	for _, secret := range []string{"alice-the-subject", "192.0.2.77", "text of an error"} {
		assert.NotContains(t, dump, secret)
	}
	assert.Contains(t, dump, grant.String())
}

// dump is everything that was recorded.
func (c collected) dump(t testing.TB) string {
	var b bytes.Buffer
	encode := json.NewEncoder(&b)
	require.NoError(t, encode.Encode(tracetest.SpanStubsFromReadOnlySpans(c.spans.Ended())))
	for _, m := range c.metrics(t) {
		require.NoError(t, encode.Encode(m))
	}
	return b.String()
}

// A real login leaves its trace, and none of its secrets.
func TestLogin(t *testing.T) {
	c := collect(t)
	server, err := devicegrant.New(devicegrant.Config{
		Store:           memstore.New(0),
		Keys:            [][]byte{bytes.Repeat([]byte{1}, 32)},
		VerificationURI: "https://example.com/device",
		AuthenticateClient: func(context.Context, devicegrant.Credentials) (devicegrant.Client, error) {
			return devicegrant.Client{}, devicegrant.ErrInvalidClient
		},
		SignedIn: func(http.ResponseWriter, *http.Request, string) (string, bool) { return "", false },
		IssueToken: func(context.Context, *devicegrant.Grant) (*devicegrant.Token, error) {
			return &devicegrant.Token{AccessToken: "the-access-token"}, nil
		},
		OnEvent: c.OnEvent,
	})
	require.NoError(t, err)
	device, err := server.Authorize(t.Context(), devicegrant.Client{ID: "tv", DeviceGrant: true}, devicegrant.AuthorizationRequest{})
	require.NoError(t, err)
	alice := devicegrant.Person{Subject: "alice-the-subject"}
	review, err := server.Lookup(t.Context(), device.UserCode, alice)
	require.NoError(t, err)
	require.NoError(t, server.Approve(t.Context(), review.Ticket, alice, devicegrant.Approval{}))
	_, err = server.Poll(t.Context(), devicegrant.PollRequest{ClientID: "tv", DeviceCode: device.DeviceCode})
	require.NoError(t, err)

	require.Len(t, c.spans.Ended(), 1)
	dump := c.dump(t)
	assert.Contains(t, dump, "redeemed")
	for _, secret := range []string{device.DeviceCode, device.UserCode, "the-access-token", review.Ticket, "alice"} {
		assert.NotContains(t, dump, secret)
	}
}

func TestConcurrentEvents(t *testing.T) {
	c := collect(t)
	var all sync.WaitGroup
	for range 8 {
		all.Go(func() {
			for range 100 {
				c.OnEvent(context.Background(), event(devicegrant.EventRedeemed))
			}
		})
	}
	all.Wait()
	assert.EqualValues(t, 800, c.metrics(t)["devicegrant.events"].Data.(metricdata.Sum[int64]).DataPoints[0].Value)
	assert.Len(t, c.spans.Ended(), 800)
}

// The global providers are what an empty Config stands for.
func TestGlobalProviders(t *testing.T) {
	telemetry, err := otel.New(otel.Config{})
	require.NoError(t, err)
	assert.NotPanics(t, func() { telemetry.OnEvent(t.Context(), event(devicegrant.EventRedeemed)) })
}

func BenchmarkOnEvent(b *testing.B) {
	c := collect(b)
	e := devicegrant.Event{Type: devicegrant.EventSlowDown, Time: asked, Grant: grant, ClientID: "tv"}
	b.ReportAllocs()
	for b.Loop() {
		c.OnEvent(b.Context(), e)
	}
}
