//go:build linux

// Package point ends or stops the process at a named place in it. Nothing that
// is shipped imports it: the torture test builds a worker whose sources call it
// (go build -overlay), and says in the environment where that worker is to be
// hit.
package point

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// Env says where: "NAME:N:SIGNAL", the Nth time that the process comes by. The
// hit is noted in the history that HistoryEnv names, before it happens.
const (
	Env        = "SHOAL_TORTURE_POINT"
	HistoryEnv = "SHOAL_TORTURE_HISTORY"
)

var (
	name, nth, signal = parse(os.Getenv(Env))
	passed            atomic.Int64
)

func parse(text string) (string, int64, unix.Signal) {
	f := strings.Split(text, ":")
	if len(f) != 3 {
		return "", 0, 0
	}
	n, _ := strconv.ParseInt(f[1], 10, 64)
	return f[0], n, unix.SignalNum(f[2])
}

// At is a place called here; the signal, if this is where it is due, hits the
// calling thread, so that nothing after At has happened.
func At(here string) {
	if here != name || passed.Add(1) != nth {
		return
	}
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now)
	if f, err := os.OpenFile(os.Getenv(HistoryEnv), os.O_WRONLY|os.O_APPEND, 0); err == nil {
		fmt.Fprintf(f, `{"at":%d,"op":"point","note":%q}`+"\n", now.Nano(), here+" "+unix.SignalName(signal))
		f.Close()
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(os.Getpid(), unix.Gettid(), signal)
}
