package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/ncruces/go-sqlite3/driver"
	"golang.org/x/sys/unix"
)

// monotonic is the kernel's clock that all processes share, in nanoseconds: one of
// them may subtract what another has read.
func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // clock_gettime(2) refuses only clocks that there are not
	}
	return t.Nano()
}

// cpu is what this process has used so far.
func cpu() (time.Duration, error) {
	var u unix.Rusage
	err := unix.Getrusage(unix.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), err
}

// memoryOf is VmRSS, what a process has in memory now, or VmHWM, the most that it
// ever had, in bytes; 0: it can't be told. ru_maxrss is no substitute: there the
// kernel counts what the parent had when it made the process.
func memoryOf(pid int, field string) int64 {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	var kib int64
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			_, _ = fmt.Sscan(value, &kib)
		}
	}
	return kib << 10
}

// machine is what was measured on. What can't be told is "unknown".
type machine struct {
	CPU        string `json:"cpu"`
	Cores      int    `json:"cores"`
	Kernel     string `json:"kernel"`
	FileSystem string `json:"file_system"`
	Go         string `json:"go"`
	SQLite     string `json:"sqlite"`
	Commit     string `json:"commit"`
	Date       string `json:"date"`
}

func machineOf(ctx context.Context, dir string) machine {
	program := func(name string, args ...string) string {
		out, err := exec.CommandContext(ctx, name, args...).Output()
		if err != nil || len(out) == 0 {
			return "unknown"
		}
		return strings.TrimSpace(string(out))
	}
	m := machine{
		CPU: "unknown", Cores: runtime.NumCPU(), Go: runtime.Version(), SQLite: "unknown",
		Kernel:     program("uname", "-sr"),
		FileSystem: program("findmnt", "-n", "-o", "FSTYPE", "-T", dir),
		Commit:     program("git", "-C", sources(), "rev-parse", "--short", "HEAD"),
		Date:       time.Now().UTC().Format(time.RFC3339),
	}
	if db, err := driver.Open(":memory:"); err == nil {
		_ = db.QueryRowContext(ctx, `SELECT sqlite_version()`).Scan(&m.SQLite)
		db.Close()
	}
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
				m.CPU = strings.TrimSpace(value)
				break
			}
		}
	}
	return m
}

// sources is the folder of Shoal's sources that this program was built from.
func sources() string {
	_, file, _, _ := runtime.Caller(0)
	return filepath.Join(filepath.Dir(file), "..", "..")
}

// build builds a program of the module in a folder of the sources.
func build(ctx context.Context, dir, output, pkg string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-C", filepath.Join(sources(), dir), "-o", output, pkg)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("go build %s in %s: %w: %s", pkg, dir, err, out)
	}
	return nil
}
