package main

import (
	"context"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// notifyStopping tells a service manager, if there is one, that the worker drains.
func notifyStopping() { _, _ = daemon.SdNotify(false, daemon.SdNotifyStopping) }

// notifyReady tells a service manager that the worker has its seat and, if the
// manager wants that, again and again that the file still answers. Without one
// it does nothing (sd_notify(3)).
func notifyReady(tables jobs.Tables, log *zap.Logger) {
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
			// Reads do not wait for the write lock: a file that others hold is no
			// reason to end this process.
			var n int
			if tables.Read().QueryRowContext(context.Background(), `SELECT count(*) FROM sync_meta`).Scan(&n) == nil {
				_, _ = daemon.SdNotify(false, daemon.SdNotifyWatchdog)
			}
		}
	}()
}
