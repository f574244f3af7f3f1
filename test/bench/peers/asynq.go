package main

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/hibiken/asynq"
)

type asynqQueue struct {
	redis     *redisServer
	client    *asynq.Client
	inspector *asynq.Inspector
	server    *asynq.Server
	handler   asynq.Handler
	slots     int
}

const (
	asynqType = "noop"
	asynqName = "default" // where asynq puts what names no queue
)

// openAsynq: Concurrency is the one setting of the Quickstart in asynq's README;
// all else are defaults, by which a completed task leaves nothing behind but its
// part in a count. The warnings go where asynq writes them, os.Stderr.
func openAsynq(ctx context.Context, s setup) (queue, error) {
	redis, err := startRedis(ctx, s.dir)
	if err != nil {
		return nil, err
	}
	conn := asynq.RedisClientOpt{Network: "unix", Addr: redis.socket}
	return &asynqQueue{
		redis:     redis,
		client:    asynq.NewClient(conn),
		inspector: asynq.NewInspector(conn),
		server:    asynq.NewServer(conn, asynq.Config{Concurrency: s.slots, LogLevel: asynq.WarnLevel}),
		handler: asynq.HandlerFunc(func(context.Context, *asynq.Task) error {
			s.ran()
			return nil
		}),
		slots: s.slots,
	}, nil
}

func (q *asynqQueue) how() string {
	return "redis-server " + q.redis.version + " on a Unix socket, appendonly with appendfsync=everysec"
}

// enqueue: this version has no call for many tasks
// (https://github.com/hibiken/asynq/issues/535 advises goroutines), and the doc
// of Client says that these may share one.
func (q *asynqQueue) enqueue(ctx context.Context, jobs int) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var taken atomic.Int64
	var wg sync.WaitGroup
	for range q.slots {
		wg.Go(func() {
			for taken.Add(1) <= int64(jobs) && ctx.Err() == nil {
				if _, err := q.client.EnqueueContext(ctx, asynq.NewTask(asynqType, nil)); err != nil {
					cancel(err)
				}
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

func (q *asynqQueue) start(context.Context) error { return q.server.Start(q.handler) }

func (q *asynqQueue) left(context.Context) (int, error) {
	info, err := q.inspector.GetQueueInfo(asynqName)
	if err != nil {
		return 0, err
	}
	return info.Size - info.Completed - info.Archived, nil
}

func (q *asynqQueue) completed(context.Context) (int, error) {
	info, err := q.inspector.GetQueueInfo(asynqName)
	if err != nil {
		return 0, err
	}
	return info.ProcessedTotal - info.FailedTotal, nil
}

func (q *asynqQueue) close() error {
	q.server.Shutdown()
	return errors.Join(q.client.Close(), q.inspector.Close(), q.redis.stop())
}
