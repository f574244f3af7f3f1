package otel_test

import (
	"context"
	"errors"
	"path/filepath"
	"testing"
	"time"

	"go.opentelemetry.io/otel/codes"
	sdk "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"

	"github.com/shoal-project/shoal/examples/otel"
	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// TestTrace: who enqueues, the attempts that fail, by an error and by a panic, and
// the one that doesn't are spans of one trace, the attempts below the enqueue, across a file.
func TestTrace(t *testing.T) {
	ctx := t.Context()
	spans := tracetest.NewInMemoryExporter()
	provider := sdk.NewTracerProvider(sdk.WithSyncer(spans))
	defer func() {
		if err := provider.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	tracer := provider.Tracer("shop")
	db, err := store.Open(ctx, filepath.Join(t.TempDir(), "jobs.db"))
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()

	asked, request := tracer.Start(ctx, "request")
	if _, err := jobs.Enqueue(asked, otel.Store{Store: db, Tracer: tracer}, "Send", "hello"); err != nil {
		t.Fatal(err)
	}
	request.End()

	w := jobs.NewWorker(db, jobs.WorkerOptions{UntilEmpty: true, RetryDelay: time.Millisecond,
		Middleware: []func(jobs.Handler) jobs.Handler{otel.Middleware(tracer)}})
	jobs.Handle(w, "Send", func(_ context.Context, j *jobs.Job[string]) error {
		switch j.Token {
		case 1:
			return errors.New("no route")
		case 2:
			panic("no host")
		case 3:
			return jobs.Snooze(0) // no failure
		}
		return nil
	})
	if err := w.Run(ctx); err != nil {
		t.Fatal(err)
	}

	byName := make(map[string][]tracetest.SpanStub)
	for _, s := range spans.GetSpans() {
		byName[s.Name] = append(byName[s.Name], s)
		if s.SpanContext.TraceID() != request.SpanContext().TraceID() {
			t.Errorf("span %s is of another trace", s.Name)
		}
	}
	if len(byName["enqueue"]) != 1 || len(byName["Send"]) != 4 {
		t.Fatalf("spans: %v", byName)
	}
	for i, attempt := range byName["Send"] {
		if attempt.Parent.SpanID() != byName["enqueue"][0].SpanContext.SpanID() {
			t.Errorf("attempt %d is not below the enqueue", i+1)
		}
		want := []sdk.Status{{Code: codes.Error, Description: "no route"}, {Code: codes.Error, Description: "the handler panicked"}, {}, {}}[i]
		if attempt.Status != want {
			t.Errorf("attempt %d: status %+v, want %+v", i+1, attempt.Status, want)
		}
	}
}
