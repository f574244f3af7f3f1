package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

// notifyStopping tells a service manager, if there is one, that the worker drains.
func notifyStopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }

// notifyReady tells a service manager that the worker has its seat and, if the
// manager wants that, again and again that it goes on: that it takes its turns,
// or waits for another process that holds the file's lock, where its own end
// would be no help. Without a manager it does nothing (sd_notify(3)).
func notifyReady(w *jobs.Worker, queue store.Store, log *zap.Logger) {
	if ok, err := daemon.SdNotify(false, daemon.SdNotifyReady); err != nil {
		log.Warn("notify the service manager", zap.Error(err))
	} else if !ok {
		return
	}
	interval, err := daemon.SdWatchdogEnabled(false)
	if err != nil || interval == 0 {
		return
	}
	go func() {
		for tick := time.Tick(interval / 3); ; <-tick {
			asking, cancel := context.WithTimeout(context.Background(), interval/3)
			err := w.Answer(asking)
			cancel()
			// In a busy fleet everybody waits for a moment all the time: what counts
			// is a wait as long as the silence.
			if err == nil || queue.Waits() > interval/6 {
				_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
		}
	}()
}
