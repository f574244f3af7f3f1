//go:build linux

// Package deploy_test runs the files in deploy/ under what they are made for:
// the unit is verified by systemd's own program and its ExecStart line run, the
// program file is read by a real supervisord.
//
// Only paths are others, and users: adapt makes a temporary copy of a file, in
// which the binary is the one that was built and the folders are the test's.
package deploy_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const (
	unitFile    = "shoal-worker@.service"
	programFile = "shoal-worker.conf"
)

// binary is the worker under the name that releases install.
var binary string

func TestMain(m *testing.M) {
	os.Exit(func() int {
		dir, err := os.MkdirTemp("", "shoal-deploy-")
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
		defer os.RemoveAll(dir)
		binary = filepath.Join(dir, "shoal-worker")
		build := exec.Command("go", "build", "-race", "-o", binary, "./cmd/worker")
		build.Dir = "../.."
		if out, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "build: %v\n%s", err, out)
			return 1
		}
		return m.Run()
	}())
}

// read returns one of the files in deploy/.
func read(t *testing.T, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// adapt puts a copy of a file of deploy/ into dir, in which each old text, which
// must be there, is replaced by the new one that follows it.
func adapt(t *testing.T, dir, name string, oldNew ...string) string {
	t.Helper()
	text := read(t, name)
	for pair := range slices.Chunk(oldNew, 2) {
		if !strings.Contains(text, pair[0]) {
			t.Fatalf("%s: no %q", name, pair[0])
		}
		text = strings.ReplaceAll(text, pair[0], pair[1])
	}
	path := filepath.Join(dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// setting is the value of a line KEY=VALUE.
func setting(t *testing.T, text, key string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no %s=", key)
	}
	return m[1]
}

// A worker that is told to stop lets jobs end for --drain, has a second for its
// last words and five for its guard; whoever kills it before that breaks what
// --drain promises.
func TestStopTimeouts(t *testing.T) {
	drain := regexp.MustCompile(`--drain (\S+)`)
	for file, keys := range map[string][2]string{
		unitFile:    {"ExecStart", "TimeoutStopSec"},
		programFile: {"command", "stopwaitsecs"},
	} {
		text := read(t, file)
		m := drain.FindStringSubmatch(setting(t, text, keys[0]))
		if m == nil {
			t.Fatalf("%s: no --drain", file)
		}
		d, err := time.ParseDuration(m[1])
		if err != nil {
			t.Fatal(err)
		}
		seconds, err := strconv.Atoi(setting(t, text, keys[1]))
		if err != nil {
			t.Fatal(err)
		}
		if least := d + 6*time.Second; time.Duration(seconds)*time.Second <= least {
			t.Errorf("%s: %s is %d, a drain takes up to %v", file, keys[1], seconds, least)
		}
	}
}

func TestUnitVerifies(t *testing.T) {
	verify := func(oldNew ...string) string {
		dir := t.TempDir()
		adapt(t, dir, unitFile, oldNew...)
		// The instance of the template; it looks for that beside it.
		cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", "--man=no", filepath.Join(dir, "shoal-worker@1.service"))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("systemd-analyze: %v", err)
		}
		// It also says what it thinks of the system's units, which ours wants.
		var ours []string
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, "shoal-worker") {
				ours = append(ours, line)
			}
		}
		return strings.Join(ours, "")
	}
	if complaints := verify("/usr/bin/shoal-worker", binary); complaints != "" {
		t.Error(complaints)
	}
	if complaints := verify("/usr/bin/shoal-worker", binary, "OOMPolicy", "OOMPolitics"); complaints == "" {
		t.Error("a setting that is none was not complained of")
	}
}

// TestUnitRuns is systemd to the worker: it runs the ExecStart line and listens
// to what sd_notify(3) says. It does so several times, as a worker with nothing
// to do stops at once and must not be faster than its own words.
func TestUnitRuns(t *testing.T) {
	for range 5 {
		dir := t.TempDir()
		home := filepath.Join(dir, "home")
		unit := adapt(t, dir, unitFile, "/usr/bin/shoal-worker", binary, "/var/lib/shoal", home, "%i", "1")
		text, err := os.ReadFile(unit)
		if err != nil {
			t.Fatal(err)
		}
		if kind := setting(t, string(text), "Type"); kind != "notify" {
			t.Fatalf("Type=%s", kind)
		}
		messages, socket := notifySocket(t)

		// As in a service, the watchdog's variables name the process that they are for.
		args := append([]string{"-c", `exec env WATCHDOG_PID=$$ "$@"`, "sh"}, strings.Fields(setting(t, string(text), "ExecStart"))...)
		worker := exec.CommandContext(t.Context(), "/bin/sh", args...)
		worker.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + home, "NOTIFY_SOCKET=" + socket, "WATCHDOG_USEC=300000"}
		var log strings.Builder
		worker.Stderr = &log
		if err := worker.Start(); err != nil {
			t.Fatal(err)
		}
		expect(t, messages, "READY=1")
		db := filepath.Join(home, "shoal.db")
		if got := sql(t, db, `SELECT pid FROM sync_workers`); got != strconv.Itoa(worker.Process.Pid) {
			t.Errorf("ready, but the seats are those of %q, not of %d", got, worker.Process.Pid)
		}
		for range 3 {
			expect(t, messages, "WATCHDOG=1")
		}
		if err := worker.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		expect(t, messages, "STOPPING=1")
		if err := worker.Wait(); err != nil {
			t.Errorf("%v\n%s", err, log.String())
		}
		if got := sql(t, db, `PRAGMA integrity_check`); got != "ok" {
			t.Error(got)
		}
	}
}

// notifySocket listens where a service speaks to systemd.
func notifySocket(t *testing.T) (messages <-chan string, path string) {
	t.Helper()
	path = filepath.Join(shortDir(t), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	got := make(chan string, 1000)
	go func() {
		buf := make([]byte, 4096)
		for {
			n, err := conn.Read(buf)
			if err != nil {
				close(got)
				return
			}
			for line := range strings.FieldsSeq(string(buf[:n])) {
				got <- line
			}
		}
	}()
	return got, path
}

// expect waits for a message; of others only a sign of life may come before it.
func expect(t *testing.T, messages <-chan string, want string) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	for {
		select {
		case got := <-messages:
			if got == want {
				return
			}
			if got != "WATCHDOG=1" {
				t.Fatalf("got %q, want %q", got, want)
			}
		case <-deadline:
			t.Fatalf("never came: %s", want)
		}
	}
}

// TestSupervisor runs the program file's workers under a real supervisord. Each
// has one slot, and each of the jobs is a command that waits at a gate, a FIFO,
// until the test opens it: a job for each worker proves that all of them work on
// the one file.
func TestSupervisor(t *testing.T) {
	s := newSupervisor(t)
	const all = "shoal-worker:*"
	names := []string{"shoal-worker-1", "shoal-worker-2", "shoal-worker-3", "shoal-worker-4"}

	before := s.fleet(names)
	s.insert(4)
	eventually(t, "a job in each worker", func() bool {
		return s.sql(`SELECT count(DISTINCT lease_owner) FROM sync_jobs WHERE status = 'running'`) == "4"
	})

	killed := s.sql(`SELECT w.pid FROM sync_jobs j JOIN sync_workers w ON w.id = j.lease_owner WHERE j.id = 1`)
	pid, err := strconv.Atoi(killed)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the job's second attempt", func() bool {
		return s.sql(`SELECT status, attempts FROM sync_jobs WHERE id = 1`) == "running|2"
	})
	after := s.fleet(names)
	for name, was := range before {
		if is := after[name]; (is != was) != (was == killed) {
			t.Errorf("%s: pid %s, then %s; killed was %s", name, was, is, killed)
		}
	}

	stopped := make(chan error, 1)
	go func() {
		_, err := s.ctl("stop", all)
		stopped <- err
	}()
	eventually(t, "all told to stop", func() bool { return s.count("STOPPING") == 4 })
	s.insert(1)
	for id := 1; id <= 4; id++ {
		s.open(id)
	}
	if err := <-stopped; err != nil {
		t.Fatal(err)
	}
	if n := s.count("STOPPED"); n != 4 {
		t.Errorf("%d workers are stopped", n)
	}
	log, err := os.ReadFile(filepath.Join(s.dir, "supervisord.log"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		if !strings.Contains(string(log), "stopped: "+name+" (exit status 0)") {
			t.Errorf("%s did not end by itself", name)
		}
	}
	want := "1|completed|2\n2|completed|1\n3|completed|1\n4|completed|1\n5|pending|0"
	if diff := cmp.Diff(want, s.sql(`SELECT id, status, attempts FROM sync_jobs ORDER BY id`)); diff != "" {
		t.Error(diff)
	}
	if n := s.sql(`SELECT count(*) FROM sync_workers`); n != "0" {
		t.Errorf("%s seats are taken", n)
	}

	// What was left for later is done then, and supervisord's own end is theirs.
	if _, err := s.ctl("start", all); err != nil {
		t.Fatal(err)
	}
	s.open(5)
	eventually(t, "the fifth job", func() bool {
		return s.sql(`SELECT status FROM sync_jobs WHERE id = 5`) == "completed"
	})
	if err := s.end(); err != nil {
		t.Error(err)
	}
	if got := s.sql(`SELECT count(*) FROM sync_workers; PRAGMA integrity_check`); got != "0\nok" {
		t.Error(got)
	}
}

// supervisor is a supervisord with the shipped program file.
type supervisor struct {
	t    *testing.T
	dir  string
	db   string
	cmd  *exec.Cmd
	done chan struct{}
	jobs int // that were inserted
}

func newSupervisor(t *testing.T) *supervisor {
	t.Helper()
	dir := shortDir(t)
	home := filepath.Join(dir, "home")
	for _, d := range []string{home, filepath.Join(dir, "gates"), filepath.Join(dir, "logs")} {
		if err := os.Mkdir(d, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	s := &supervisor{t: t, dir: dir, db: filepath.Join(home, "shoal.db"), done: make(chan struct{})}
	adapt(t, dir, programFile,
		"/usr/bin/shoal-worker", binary, "/var/lib/shoal", home, "/var/log/shoal", filepath.Join(dir, "logs"),
		"user=shoal\n", "") // the test's own
	config := filepath.Join(dir, "supervisord.conf")
	if err := os.WriteFile(config, fmt.Appendf(nil, `[supervisord]
nodaemon=true
logfile=%[1]s/supervisord.log
pidfile=%[1]s/supervisord.pid
[unix_http_server]
file=%[1]s/ctl
[supervisorctl]
serverurl=unix://%[1]s/ctl
[rpcinterface:supervisor]
supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface
[include]
files=%[2]s
`, dir, programFile), 0o600); err != nil {
		t.Fatal(err)
	}
	s.cmd = exec.Command("supervisord", "-c", config)
	// What supervisord has in its environment its programs have, too.
	s.cmd.Env = append(os.Environ(), "SHOAL_CONCURRENCY=1", "SHOAL_EXEC=Wait=cat "+dir+"/gates/$SHOAL_JOB_ID")
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		_ = s.cmd.Wait()
		close(s.done)
	}()
	t.Cleanup(func() {
		err := s.end()
		if !t.Failed() {
			return
		}
		t.Log(err)
		logs, _ := filepath.Glob(filepath.Join(dir, "logs", "*.log"))
		for _, name := range append(logs, filepath.Join(dir, "supervisord.log")) {
			text, _ := os.ReadFile(name)
			t.Logf("%s:\n%s", name, text)
		}
	})
	return s
}

// end has supervisord stop its programs and end, unless it has.
func (s *supervisor) end() error {
	select {
	case <-s.done:
		return nil
	default:
	}
	if err := s.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-s.done:
	case <-time.After(60 * time.Second):
		return fmt.Errorf("supervisord (pid %d) does not end", s.cmd.Process.Pid)
	}
	if code := s.cmd.ProcessState.ExitCode(); code != 0 {
		return fmt.Errorf("supervisord: exit status %d", code)
	}
	return nil
}

// ctl runs supervisorctl.
func (s *supervisor) ctl(args ...string) (string, error) {
	args = append([]string{"-c", filepath.Join(s.dir, "supervisord.conf")}, args...)
	// The test's context has ended when its cleanup runs.
	out, err := exec.CommandContext(context.Background(), "supervisorctl", args...).CombinedOutput()
	if err != nil {
		err = fmt.Errorf("supervisorctl %v: %w: %s", args[2:], err, out)
	}
	return string(out), err
}

// status is a line of supervisorctl's, "shoal-worker:shoal-worker-1 RUNNING pid 7, uptime …".
var status = regexp.MustCompile(`(?m)^shoal-worker:(\S+) +([A-Z]+)(?: +pid (\d+),)?`)

// lines are the fields of status for each worker. supervisorctl exits with 3
// where one doesn't run, so that what it prints is what counts.
func (s *supervisor) lines() [][]string {
	out, _ := s.ctl("status")
	return status.FindAllStringSubmatch(out, -1)
}

func (s *supervisor) count(state string) (n int) {
	for _, line := range s.lines() {
		if line[2] == state {
			n++
		}
	}
	return n
}

// fleet waits until supervisord has those workers running and they, and nobody
// else, have seats; it returns their pids by name.
func (s *supervisor) fleet(names []string) map[string]string {
	s.t.Helper()
	var pids map[string]string
	eventually(s.t, "a seat for each worker", func() bool {
		pids = make(map[string]string)
		var running []string
		for _, line := range s.lines() {
			if line[2] == "RUNNING" {
				pids[line[1]] = line[3]
				running = append(running, line[3])
			}
		}
		if s.sql(`SELECT count(*) FROM sqlite_schema WHERE name = 'sync_workers'`) != "1" {
			return false
		}
		seated := strings.Fields(s.sql(`SELECT pid FROM sync_workers`))
		slices.Sort(running)
		slices.Sort(seated)
		return len(pids) == len(names) && slices.Equal(running, seated)
	})
	for _, name := range names {
		if pids[name] == "" {
			s.t.Errorf("no worker is called %s: %v", name, pids)
		}
	}
	return pids
}

// insert adds jobs as any program may, with plain SQL, and their gates.
func (s *supervisor) insert(n int) {
	s.t.Helper()
	for range n {
		s.jobs++
		if err := syscall.Mkfifo(s.gate(s.jobs), 0o600); err != nil {
			s.t.Fatal(err)
		}
		s.sql(`INSERT INTO sync_jobs (job_type, payload, status, created_at) VALUES ('Wait', '{}', 'pending', unixepoch())`)
	}
}

// open lets the job's command, which it waits for, end.
func (s *supervisor) open(id int) {
	s.t.Helper()
	eventually(s.t, fmt.Sprintf("job %d at its gate", id), func() bool {
		// Without a reader that is ENXIO.
		fd, err := syscall.Open(s.gate(id), syscall.O_WRONLY|syscall.O_NONBLOCK|syscall.O_CLOEXEC, 0)
		return err == nil && syscall.Close(fd) == nil
	})
}

func (s *supervisor) gate(id int) string { return filepath.Join(s.dir, "gates", strconv.Itoa(id)) }

// sql asks the system's sqlite3, and nothing before the database is there.
func (s *supervisor) sql(query string) string {
	s.t.Helper()
	if _, err := os.Stat(s.db); err != nil {
		return ""
	}
	return sql(s.t, s.db, query)
}

func sql(t *testing.T, db, query string) string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "sqlite3", "-cmd", ".timeout 20000", db, query).CombinedOutput()
	if err != nil {
		t.Fatalf("sqlite3: %v: %s\n%s", err, out, query)
	}
	return strings.TrimSpace(string(out))
}

// shortDir is a folder whose name leaves room for a socket's in 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "shoal-") //nolint:usetesting // TempDir's names hold the test's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// eventually looks until ok.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(60 * time.Second); !ok(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("never came: %s", what)
		}
	}
}
