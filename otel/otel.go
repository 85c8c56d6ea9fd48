// Package otel turns the events of devicegrant into OpenTelemetry metrics and spans.
//
//	telemetry, err := otel.New(otel.Config{})
//	grant, err := devicegrant.New(devicegrant.Config{OnEvent: telemetry.OnEvent, …})
//
// Where OpenTelemetry's own package of that name is imported as well, import this one as
// devicegrantotel.
//
// No code, token or key is in an event, and so none is in the telemetry. Neither is who
// somebody is or where they are: metrics have the kind of event and the client, spans the
// grant's ID as well. The text of errors stays in the log.
package otel

import (
	"context"
	"errors"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/devicegrant/devicegrant"
)

const scope = "github.com/devicegrant/devicegrant/otel"

// Attributes of metrics and spans.
const (
	// EventKey is the type of the event.
	EventKey = attribute.Key("devicegrant.event")
	// ClientIDKey is the client. The host has authenticated it, or it is a grant's: so
	// there are no more than are registered.
	ClientIDKey = attribute.Key("devicegrant.client_id")
	// GrantKey is the grant's ID. It is in spans only.
	GrantKey = attribute.Key("devicegrant.grant")
)

// Config is where telemetry goes. Its zero value stands for the global providers.
type Config struct {
	MeterProvider  metric.MeterProvider
	TracerProvider trace.TracerProvider
}

// Telemetry records events. It is safe for concurrent use, and keeps nothing.
type Telemetry struct {
	tracer   trace.Tracer
	events   metric.Int64Counter
	purged   metric.Int64Counter
	decision metric.Float64Histogram
	login    metric.Float64Histogram
}

// New returns a Telemetry. It fails only if the MeterProvider does.
func New(cfg Config) (*Telemetry, error) {
	if cfg.MeterProvider == nil {
		cfg.MeterProvider = otel.GetMeterProvider()
	}
	if cfg.TracerProvider == nil {
		cfg.TracerProvider = otel.GetTracerProvider()
	}
	meter := cfg.MeterProvider.Meter(scope)
	t := &Telemetry{tracer: cfg.TracerProvider.Tracer(scope)}
	durations := metric.WithExplicitBucketBoundaries(1, 2, 5, 10, 15, 20, 30, 45, 60, 90, 120, 180, 300, 600, 900, 1800)
	var errs [4]error
	t.events, errs[0] = meter.Int64Counter("devicegrant.events",
		metric.WithUnit("{event}"), metric.WithDescription("What happened, by type and client"))
	t.purged, errs[1] = meter.Int64Counter("devicegrant.purged",
		metric.WithUnit("{record}"), metric.WithDescription("Expired grants and tallies that were deleted"))
	t.decision, errs[2] = meter.Float64Histogram("devicegrant.decision.duration",
		metric.WithUnit("s"), metric.WithDescription("From the device's request to the person's decision"), durations)
	t.login, errs[3] = meter.Float64Histogram("devicegrant.login.duration",
		metric.WithUnit("s"), metric.WithDescription("From the device's request to its tokens"), durations)
	return t, errors.Join(errs[:]...)
}

// OnEvent records an event. It is a devicegrant.Config.OnEvent.
func (t *Telemetry) OnEvent(ctx context.Context, e devicegrant.Event) {
	t.measure(ctx, e)
	t.annotate(ctx, e)
	if ends(e.Type) {
		t.trace(ctx, e)
	}
}

// measure updates the metrics.
func (t *Telemetry) measure(ctx context.Context, e devicegrant.Event) {
	attributes := metric.WithAttributeSet(attribute.NewSet(kind(e)...))
	t.events.Add(ctx, 1, attributes)
	switch e.Type {
	case devicegrant.EventApproved, devicegrant.EventDenied, devicegrant.EventReported, devicegrant.EventLeft:
		t.decision.Record(ctx, age(e).Seconds(), attributes)
	case devicegrant.EventRedeemed:
		t.login.Record(ctx, age(e).Seconds(), attributes)
	case devicegrant.EventPurged:
		t.purged.Add(ctx, int64(e.Count))
	default: // It is counted.
	}
}

// annotate adds the event to the span of the request in which it happened.
func (t *Telemetry) annotate(ctx context.Context, e devicegrant.Event) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	span.AddEvent("devicegrant."+string(e.Type), trace.WithTimestamp(e.Time), trace.WithAttributes(named(e)...))
	if e.Err != nil {
		span.SetStatus(codes.Error, "devicegrant."+string(e.Type))
	}
}

// trace records the whole login, now that it is over: on whichever replica it began, the
// event says when. It is a trace of its own, linked to the request that ended it.
func (t *Telemetry) trace(ctx context.Context, e devicegrant.Event) {
	_, span := t.tracer.Start(ctx, "devicegrant.login",
		trace.WithNewRoot(), trace.WithLinks(trace.LinkFromContext(ctx)),
		trace.WithTimestamp(e.CreatedAt), trace.WithAttributes(named(e)...))
	span.End(trace.WithTimestamp(e.Time))
}

// ends reports whether a grant is over. One that expires raises no event.
func ends(t devicegrant.EventType) bool {
	switch t {
	case devicegrant.EventRedeemed, devicegrant.EventDenied, devicegrant.EventReported, devicegrant.EventLeft, devicegrant.EventRevoked:
		return true
	default:
		return false
	}
}

// age is how long ago the device asked.
func age(e devicegrant.Event) time.Duration { return max(0, e.Time.Sub(e.CreatedAt)) }

// kind is what of an event is in metrics.
func kind(e devicegrant.Event) []attribute.KeyValue {
	attributes := append(make([]attribute.KeyValue, 0, 3), EventKey.String(string(e.Type)))
	if e.ClientID != "" {
		attributes = append(attributes, ClientIDKey.String(e.ClientID))
	}
	return attributes
}

// named is what of it is in spans.
func named(e devicegrant.Event) []attribute.KeyValue {
	attributes := kind(e)
	if e.Grant != uuid.Nil {
		attributes = append(attributes, GrantKey.String(e.Grant.String()))
	}
	return attributes
}
