package otel_test

import (
	"context"
	"fmt"
	"time"

	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"

	"github.com/devicegrant/devicegrant"
	"github.com/devicegrant/devicegrant/otel"
)

// A host hands OnEvent to its Config. With the global providers, otel.Config is empty.
func ExampleNew() {
	reader := sdkmetric.NewManualReader()
	telemetry, err := otel.New(otel.Config{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
	if err != nil {
		panic(err)
	}
	cfg := devicegrant.Config{OnEvent: telemetry.OnEvent}

	asked := time.Date(2026, 11, 25, 20, 15, 0, 0, time.UTC)
	cfg.OnEvent(context.Background(), devicegrant.Event{
		Type: devicegrant.EventRedeemed, ClientID: "tv", CreatedAt: asked, Time: asked.Add(30 * time.Second),
	})

	var all metricdata.ResourceMetrics
	if err := reader.Collect(context.Background(), &all); err != nil {
		panic(err)
	}
	for _, m := range all.ScopeMetrics[0].Metrics {
		fmt.Println(m.Name, m.Unit)
	}
	// Output:
	// devicegrant.events {event}
	// devicegrant.login.duration s
}
