package handlers

import (
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
	{"SyncBucket", check[SyncBucket], registerSyncBucket},
	{"DownloadPins", check[DownloadPins], registerDownloadPins},
	{"PingPeer", check[PingPeer], registerPingPeer},
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
