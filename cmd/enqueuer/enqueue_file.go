package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// What goes into one commit: at most so many jobs, and about so many bytes of
// their lines, which bounds the memory that a file of any size takes.
const (
	batchJobs  = 1000
	batchBytes = 8 << 20
)

// maxLine is a payload of the greatest size, even with some of it escaped, and
// the other keys.
const maxLine = 4 * jobs.MaxPayload

// jobFile is a file of jobs, which is read twice: to check all of it, then to
// enqueue it.
type jobFile struct {
	*os.File
	name string
	size int64
	from int64 // the first line that counts
}

func (c *call) enqueueFile() error {
	if c.NArg() > 0 {
		return command.Usage("TYPE and --file can't go together: each line of the file names its type")
	}
	for _, flag := range c.Command.Flags {
		if name := flag.Names()[0]; c.IsSet(name) && name != "file" && name != "from-line" {
			return command.Usage("--%s and --file can't go together: each line of the file says its own", name)
		}
	}
	if c.Int64("from-line") < 1 {
		return command.Usage("--from-line is %d: lines count from 1", c.Int64("from-line"))
	}
	f, err := c.openJobs(c.String("file"))
	if err != nil {
		return err
	}
	defer f.Close()

	total := int64(0)
	err = c.eachJob(f, "checking ", func(int64, jobs.New, int) error { total++; return nil })
	switch {
	case err != nil:
		return fmt.Errorf("%w; nothing was enqueued", err)
	case total == 0:
		return fmt.Errorf("%s holds no job from line %d on", f.name, f.from)
	}
	if err := c.open(makeHome); err != nil {
		return err
	}
	return c.enqueueAll(f)
}

// enqueueAll enqueues a file that was checked.
func (c *call) enqueueAll(f *jobFile) error {
	var batch []jobs.New
	next, bytes := f.from, 0 // next: the first line that is not enqueued
	var done, known int64    // known: of those, jobs that were there already
	flush := func(line int64) error {
		if len(batch) == 0 {
			return nil
		}
		ids, err := c.home.Store.Enqueue(c.ctx, batch...)
		if err != nil {
			return err
		}
		done += int64(len(ids))
		for _, a := range ids {
			if a.Existing {
				known++
			}
		}
		next, bytes, batch = line, 0, batch[:0]
		// On a terminal a million numbers tell nobody anything.
		if !c.out.JSON && command.IsTerminal(c.out.Writer) {
			return nil
		}
		return c.printAdded(ids)
	}
	err := c.eachJob(f, "enqueuing", func(line int64, n jobs.New, size int) error {
		if len(batch) == batchJobs || bytes+size > batchBytes {
			if err := flush(line); err != nil {
				return err
			}
		}
		batch, bytes = append(batch, n), bytes+size
		return nil
	})
	if err == nil {
		err = flush(0)
	}
	if err != nil {
		return c.interrupted(err, next, done)
	}
	already := ""
	if known > 0 {
		already = fmt.Sprintf(", %s of them there already", command.Count(known))
	}
	fmt.Fprintf(c.App.ErrWriter, "enqueued %s%s\n", command.Plural(done, "job"), already)
	return nil
}

// interrupted says how to go on after an error in the middle of a file.
func (c *call) interrupted(err error, next, done int64) error {
	err = c.stopped(err)
	if errors.Is(err, jobs.ErrUnknown) {
		return fmt.Errorf("%w; enqueued %s, those before line %d, and perhaps up to %d more: look, then go on with --from-line", err, command.Plural(done, "job"), next, batchJobs)
	}
	return fmt.Errorf("%w; enqueued %s: go on with --from-line %d", err, command.Plural(done, "job"), next)
}

// openJobs opens a file of jobs; what comes on standard input is kept in a
// temporary file first.
func (c *call) openJobs(name string) (f *jobFile, err error) {
	f = &jobFile{name: name, from: c.Int64("from-line")}
	if name == "-" {
		f.name = "standard input"
		if f.File, err = spool(c.stdin()); err != nil {
			return nil, fmt.Errorf("read standard input: %w", err)
		}
	} else if f.File, err = os.Open(name); err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a regular file, and it is read twice: pipe it to --file -", name)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	f.size = info.Size()
	return f, nil
}

func spool(r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "enqueue-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name()) // it lives as long as it is open
	if err == nil {
		_, err = io.Copy(f, r)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// eachJob reads the file from its beginning and calls do with each job, its line
// and that line's size, and shows how far it came. Empty lines are none.
func (c *call) eachJob(f *jobFile, what string, do func(line int64, n jobs.New, size int) error) error {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return err
	}
	bar := c.progress(what, f.size)
	defer bar.Exit() //nolint:errcheck // it is for the eyes
	lines := bufio.NewScanner(f)
	lines.Buffer(make([]byte, 64<<10), maxLine)
	line := int64(0)
	for lines.Scan() {
		line++
		bar.Add(len(lines.Bytes()) + 1) //nolint:errcheck // as above
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if line < f.from || len(lines.Bytes()) == 0 {
			continue
		}
		n, err := parseLine(lines.Bytes())
		if err != nil {
			return fmt.Errorf("%s, line %d: %w", f.name, line, err)
		}
		if err := do(line, n, len(lines.Bytes())); err != nil {
			return err
		}
	}
	if errors.Is(lines.Err(), bufio.ErrTooLong) {
		return fmt.Errorf("%s, line %d: longer than %s", f.name, line+1, command.Bytes(maxLine))
	}
	return lines.Err()
}

// progress is a bar on stderr where somebody can see it.
func (c *call) progress(what string, size int64) *progressbar.ProgressBar {
	return progressbar.NewOptions64(size,
		progressbar.OptionSetWriter(c.App.ErrWriter),
		progressbar.OptionSetVisibility(command.IsTerminal(c.App.ErrWriter)),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionSetWidth(30),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish())
}
