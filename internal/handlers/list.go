package handlers

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// A jobType is a type of job that Shoal brings along.
type jobType struct {
	name     string
	check    func(payload []byte) error // nil, or what is wrong with which field
	register func(*jobs.Worker, *Home)
}

var builtIn = []jobType{
	handledBy("SyncBucket", (*Home).sync),
	handledBy("DownloadPins", (*Home).download),
	handledBy("PingPeer", (*Home).ping),
}

func handledBy[Payload any](name string, handle func(*Home, context.Context, *jobs.Job[Payload]) error) jobType {
	return jobType{
		name:  name,
		check: func(payload []byte) error { return json.Unmarshal(payload, new(Payload)) },
		register: func(w *jobs.Worker, h *Home) {
			jobs.Handle(w, name, func(ctx context.Context, j *jobs.Job[Payload]) error { return handle(h, ctx, j) })
		},
	}
}

// Types are the names of the built-in job types.
func Types() []string {
	var names []string
	for _, t := range builtIn {
		names = append(names, t.name)
	}
	return names
}

// Register registers the built-in handlers of a home, of the types named.
func Register(w *jobs.Worker, h *Home, types ...string) {
	for _, t := range builtIn {
		if slices.Contains(types, t.name) {
			t.register(w, h)
		}
	}
}

// CheckPayload returns an error that names the field if payload, valid JSON, is
// not one for the built-in type; of other types it knows nothing.
func CheckPayload(name string, payload []byte) error {
	for _, t := range builtIn {
		if t.name == name {
			return t.check(payload)
		}
	}
	return nil
}
