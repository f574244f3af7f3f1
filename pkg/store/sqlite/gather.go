package sqlite

import (
	"io"

	"github.com/ncruces/go-sqlite3"
)

// gathered is what a COMMIT has to write to the -wal file. SQLite writes each page and
// its header by themselves, 24 writes for what 50 jobs change. As one write they take a
// quarter of the time, and whoever watches the file is told once.
//
// No other connection reads these frames before the sync, as the index of the -wal file
// tells of a commit only after it. The COMMIT itself does (walFile.ReadAt writes them
// first): to make checksums anew where it replaces a page that was written before it.
//
// Nothing is gathered outside of a COMMIT. A large transaction writes pages before its
// end, and where it is rolled back the file is not told: frames that were kept would be
// written later, over another's.
type gathered struct {
	committing bool // else nothing is gathered
	frames     []byte
	at         int64 // where in the file they begin
}

// gatherMost is how much is written at a time, in bytes.
const gatherMost = 256 << 10

// gather takes p, which is to be written at at.
func (g *gathered) gather(to io.WriterAt, p []byte, at int64) (int, error) {
	if len(g.frames)+len(p) > gatherMost || at != g.at+int64(len(g.frames)) {
		if err := g.flush(to); err != nil {
			return 0, err
		}
		g.at = at
	}
	g.frames = append(g.frames, p...)
	return len(p), nil
}

// flush writes what was gathered. After an error all of it is to be given up.
func (g *gathered) flush(to io.WriterAt) error {
	if len(g.frames) == 0 {
		return nil
	}
	_, err := to.WriteAt(g.frames, g.at)
	g.frames = g.frames[:0]
	return err
}

// gatherFrames has what is written to the -wal file gathered, until end.
func (c *conn) gatherFrames() (end func(), err error) {
	file, err := c.FileControl("main", sqlite3.FCNTL_JOURNAL_POINTER)
	if err != nil {
		return nil, err
	}
	wal, ok := file.(*walFile)
	if !ok {
		return func() {}, nil
	}
	wal.committing = true
	// With synchronous=FULL nothing is left but of a COMMIT that has failed.
	return func() { wal.committing, wal.frames = false, wal.frames[:0] }, nil
}
