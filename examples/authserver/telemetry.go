package main

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"go.opentelemetry.io/otel/exporters/stdout/stdoutmetric"
	"go.opentelemetry.io/otel/exporters/stdout/stdouttrace"
	"go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/trace"

	devicegrantotel "github.com/devicegrant/devicegrant/otel"
)

// telemetry is where metrics and spans go. Another server has exporters of its own.
type telemetry struct {
	*devicegrantotel.Telemetry
	stop func() error
}

// flushTime is how long writing the last of it may take.
const flushTime = 5 * time.Second

// startTelemetry appends metrics and spans to a file. Without one they are dropped.
func startTelemetry(file string) (_ *telemetry, err error) {
	if file == "" {
		recorder, err := devicegrantotel.New(devicegrantotel.Config{}) // The global providers drop everything.
		return &telemetry{recorder, func() error { return nil }}, err
	}
	out, err := os.OpenFile(file, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	t, err := telemetryTo(out)
	if err != nil {
		return nil, errors.Join(err, out.Close())
	}
	flush := t.stop
	t.stop = func() error { return errors.Join(flush(), out.Close()) }
	return t, nil
}

func telemetryTo(w io.Writer) (*telemetry, error) {
	spans, err := stdouttrace.New(stdouttrace.WithWriter(w))
	if err != nil {
		return nil, err
	}
	measurements, err := stdoutmetric.New(stdoutmetric.WithWriter(w))
	if err != nil {
		return nil, err
	}
	traces := trace.NewTracerProvider(trace.WithBatcher(spans))
	meters := metric.NewMeterProvider(metric.WithReader(metric.NewPeriodicReader(measurements)))
	recorder, err := devicegrantotel.New(devicegrantotel.Config{MeterProvider: meters, TracerProvider: traces})
	return &telemetry{recorder, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), flushTime)
		defer cancel()
		return errors.Join(meters.Shutdown(ctx), traces.Shutdown(ctx))
	}}, err
}
