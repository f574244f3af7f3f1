// Package otel traces a queue with OpenTelemetry: the trace of who enqueues a job
// goes on in the attempts at it, in another process, hours later. It is an example
// to copy: there is nothing in it that Shoal does for it alone.
package otel

import (
	"context"
	"encoding/json"
	"errors"
	"maps"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// carry puts the trace into a job's meta, in the form of W3C Trace Context.
var carry propagation.TraceContext

// Store is a queue that traces what is enqueued through it. The follow-ups of
// Job.Commit and the ticks of schedules don't pass here.
type Store struct {
	jobs.Store
	Tracer trace.Tracer
}

// Enqueue implements jobs.Store.
func (s Store) Enqueue(ctx context.Context, batch ...jobs.New) ([]jobs.Added, error) {
	ctx, span := s.Tracer.Start(ctx, "enqueue", trace.WithSpanKind(trace.SpanKindProducer))
	defer span.End()
	traced := make([]jobs.New, len(batch)) // the caller's own are left as they are
	for i, n := range batch {
		n.Meta = maps.Clone(n.Meta)
		if n.Meta == nil {
			n.Meta = make(map[string]string)
		}
		carry.Inject(ctx, propagation.MapCarrier(n.Meta))
		traced[i] = n
	}
	added, err := s.Store.Enqueue(ctx, traced...)
	note(span, err)
	return added, err
}

// Middleware is a span around each attempt, for WorkerOptions.Middleware.
func Middleware(tracer trace.Tracer) func(jobs.Handler) jobs.Handler {
	return func(next jobs.Handler) jobs.Handler {
		return func(ctx context.Context, j *jobs.Job[json.RawMessage]) error {
			ctx = carry.Extract(ctx, propagation.MapCarrier(j.Meta))
			ctx, span := tracer.Start(ctx, j.Type, trace.WithSpanKind(trace.SpanKindConsumer), trace.WithAttributes(
				attribute.String("messaging.system", "shoal"),
				attribute.String("messaging.destination.name", j.Queue),
				attribute.Int64("messaging.message.id", j.ID),
				attribute.Int("shoal.attempt", j.Attempt)))
			err := errors.New("the handler panicked") // unless it returns
			defer func() {
				note(span, err)
				span.End()
			}()
			err = next(ctx, j)
			return err
		}
	}
}

func note(span trace.Span, err error) {
	if err != nil && !errors.Is(err, jobs.ErrSnoozed) {
		span.RecordError(err)
		span.SetStatus(codes.Error, err.Error())
	}
}
