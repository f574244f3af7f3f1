package sqlite

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func openBaton(t *testing.T, path string) *baton {
	t.Helper()
	seats, err := openSeatFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b, err := newBaton(seats, never)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(b.close(), seats.Close()); err != nil {
			t.Error(err)
		}
	})
	return b
}

func always() bool { return true }
func never() bool  { return false }

// TestBaton proves that of several who ask for the baton one has it, that each
// gets it in the end, and that who is told to stop waiting does.
func TestBaton(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	first := openBaton(t, path)
	const many, rounds = 4, 200
	holding := make(chan struct{}, 1) // full while somebody holds it
	done := make(chan int)
	for range many {
		b := openBaton(t, path)
		go func() {
			stuck := 0
			for range rounds {
				b.take(always)
				if !b.held {
					stuck++
					continue
				}
				select {
				case holding <- struct{}{}:
				default:
					t.Error("two hold the baton")
				}
				<-holding
				b.pass()
			}
			done <- stuck
		}()
	}
	for range many {
		if stuck := <-done; stuck > 0 {
			t.Errorf("%d times the baton was taken for stuck, though it was passed on all the time", stuck)
		}
	}

	first.take(always)
	other := openBaton(t, path)
	asked := 0
	other.take(func() bool { asked++; return asked < 2 })
	if other.held {
		t.Error("two hold the baton")
	}
}

// TestBatonStuck proves that a holder that does nothing is passed by, later while
// somebody writes, and at once the second time, until it passes the baton on; and
// that one that has died is not in the way at all.
func TestBatonStuck(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	holder, other := openBaton(t, path), openBaton(t, path)
	holder.take(always)
	for _, c := range []struct {
		writing func() bool
		after   time.Duration
	}{{always, batonSlow}, {never, batonLook}} {
		other.writing, other.stuck = c.writing, 0
		start := time.Now()
		other.take(func() bool { return c.after == batonSlow || time.Since(start) < batonSlow })
		if other.held || other.stuck == 0 || time.Since(start) < c.after {
			t.Fatalf("held %v after %v, want passed by after %v", other.held, time.Since(start), c.after)
		}
	}
	asked := 0
	other.take(func() bool { asked++; return true })
	if other.held || asked != 1 {
		t.Errorf("held %v, asked %d times, want passed by at once", other.held, asked)
	}
	holder.pass()
	if other.take(always); !other.held {
		t.Error("the baton is free and not taken")
	}
	other.pass()

	seats, err := openSeatFile(path)
	if err != nil {
		t.Fatal(err)
	}
	dying, err := newBaton(seats, never)
	if err != nil {
		t.Fatal(err)
	}
	if dying.take(always); !dying.held {
		t.Fatal("the baton is free and not taken")
	}
	if err := errors.Join(dying.close(), seats.Close()); err != nil { // as the kernel does for the dead
		t.Fatal(err)
	}
	if other.take(always); !other.held {
		t.Error("a dead holder is in the way")
	}
	other.pass()
}

// TestBatonCut proves that a seats' file which somebody has emptied does no harm:
// nobody reads its page but the kernel.
func TestBatonCut(t *testing.T) {
	path := filepath.Join(t.TempDir(), "jobs.db")
	holder, other := openBaton(t, path), openBaton(t, path)
	for range 2 {
		holder.take(always)
		if err := os.Truncate(path+"-workers", 0); err != nil {
			t.Fatal(err)
		}
		other.take(always)
		if other.held {
			t.Error("two hold the baton")
		}
		holder.pass()
	}
	if other.take(always); !other.held {
		t.Error("the baton is free and not taken")
	}
	other.pass()
}
