package peer_test

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
)

// ensureIn makes this test binary a process that ensures the identity of a
// home and prints it.
const ensureIn = "SHOAL_TEST_ENSURE_IDENTITY"

func TestMain(m *testing.M) {
	if home := os.Getenv(ensureIn); home != "" {
		id, created, err := peer.EnsureIdentity(home)
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		fmt.Println(id.ID(), created)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func TestIdentityIsMadeOnceAndKept(t *testing.T) {
	home := t.TempDir()
	if _, err := peer.LoadIdentity(home); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("no identity: got %v, want fs.ErrNotExist", err)
	}
	made, created, err := peer.EnsureIdentity(home)
	if err != nil || !created {
		t.Fatalf("EnsureIdentity: created %v, %v", created, err)
	}
	again, created, err := peer.EnsureIdentity(home)
	if err != nil || created {
		t.Fatalf("EnsureIdentity again: created %v, %v", created, err)
	}
	loaded, err := peer.LoadIdentity(home)
	if err != nil {
		t.Fatal(err)
	}
	if made.ID() != again.ID() || made.ID() != loaded.ID() || !made.Key().Equal(loaded.Key()) {
		t.Fatal("the identity changed")
	}
	if _, err := bucket.ParsePeerID(string(made.ID())); err != nil {
		t.Fatal(err)
	}
	if got := loaded.ID().PublicKey(); !got.Equal(made.Key().Public()) {
		t.Fatal("the ID is not the public key")
	}
	checkHome(t, home)
}

// It proves that processes and goroutines that start at once agree on one key,
// that one of them made it, and that none leaves a second one behind.
func TestIdentityIsOneHoweverManyMakeIt(t *testing.T) {
	home := t.TempDir()
	var (
		wg      sync.WaitGroup
		mu      sync.Mutex
		makers  int
		answers = map[string]int{}
	)
	note := func(id string, created bool) {
		mu.Lock()
		defer mu.Unlock()
		answers[id]++
		if created {
			makers++
		}
	}
	start := make(chan struct{})
	for range 6 {
		wg.Go(func() {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), ensureIn+"="+home)
			cmd.Stderr = os.Stderr
			<-start
			out, err := cmd.Output()
			if err != nil {
				t.Error(err)
				return
			}
			id, created, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
			note(id, created == "true")
		})
	}
	for range 16 {
		wg.Go(func() {
			<-start
			id, created, err := peer.EnsureIdentity(home)
			if err != nil {
				t.Error(err)
				return
			}
			note(string(id.ID()), created)
		})
	}
	close(start)
	wg.Wait()
	if len(answers) != 1 || makers != 1 {
		t.Fatalf("identities %v, made by %d", answers, makers)
	}
	checkHome(t, home)
}

func TestIdentityThatOthersCanReadIsRefused(t *testing.T) {
	home := t.TempDir()
	if _, _, err := peer.EnsureIdentity(home); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(home, "identity.pem")
	if err := os.Chmod(file, 0o640); err != nil {
		t.Fatal(err)
	}
	_, _, err := peer.EnsureIdentity(home)
	if err == nil || !strings.Contains(err.Error(), "is readable by others (mode 0640): chmod 600 it") {
		t.Fatalf("got %v", err)
	}
}

func TestIdentityThatIsNoKeyIsRefusedAndKept(t *testing.T) {
	for name, text := range map[string]string{
		"empty":   "",
		"garbage": "not a key\n",
		"other":   "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
	} {
		t.Run(name, func(t *testing.T) {
			home := t.TempDir()
			file := filepath.Join(home, "identity.pem")
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, _, err := peer.EnsureIdentity(home); err == nil {
				t.Fatal("it was accepted")
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != text {
				t.Fatalf("the file was changed: %q, %v", got, err)
			}
		})
	}
}

func TestIdentityNeedsItsHome(t *testing.T) {
	if _, _, err := peer.EnsureIdentity(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v, want fs.ErrNotExist", err)
	}
}

// checkHome checks that a home holds its identity, private, and nothing else.
func checkHome(t *testing.T, home string) {
	t.Helper()
	entries, err := os.ReadDir(home)
	if err != nil || len(entries) != 1 || entries[0].Name() != "identity.pem" {
		t.Fatalf("the home holds %v, %v", entries, err)
	}
	info, err := entries[0].Info()
	if err != nil || info.Mode() != 0o600 {
		t.Fatalf("identity.pem: %v, %v", info.Mode(), err)
	}
}
