package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"unicode/utf8"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// replacement stands for what isn't UTF-8.
var replacement = []byte("\uFFFD")

// head keeps the beginning of what is written to it: as much as may become a
// result, and the length of all.
type head struct {
	kept  []byte
	total int
}

func (h *head) Write(p []byte) (int, error) {
	h.total += len(p)
	h.kept = append(h.kept, p[:min(len(p), jobs.MaxResult-len(h.kept))]...)
	return len(p), nil
}

// result is what was printed as JSON: JSON as it is, all else as a string
// without the newlines at its end, as in a shell's $(…). Nothing printed is nil.
//
// Too long an output is no failure: exit status 0 says that the work is done,
// and another attempt would only do it again. Its beginning is kept as a string
// that says how much was cut, which no reader of JSON takes for the whole.
func (h *head) result() json.RawMessage {
	text := bytes.ToValidUTF8(bytes.TrimRight(h.kept, "\r\n"), replacement)
	if len(text) == 0 && h.total == len(h.kept) {
		return nil
	}
	if h.total == len(h.kept) {
		if kept, err := json.Marshal(json.RawMessage(text)); err == nil && len(kept) <= jobs.MaxResult {
			return kept
		}
		if kept, err := json.Marshal(string(text)); err == nil && len(kept) <= jobs.MaxResult {
			return kept
		}
	}
	cut := fmt.Sprintf("… (cut: the command printed %d bytes, a result has at most %d with its quoting;"+
		" print the name of a file instead)", h.total, jobs.MaxResult)
	for {
		kept, err := json.Marshal(string(bytes.ToValidUTF8(text, nil)) + cut)
		if err == nil && len(kept) <= jobs.MaxResult {
			return kept
		}
		// Quoting makes at most six bytes of one.
		text = text[:len(text)-1-max(0, len(kept)-jobs.MaxResult)/6]
	}
}

// maxStderr is how much of a command's standard error is told, in bytes.
const maxStderr = 4 << 10

// tail keeps the end of what is written to it.
type tail struct {
	kept []byte
	cut  bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*maxStderr {
		t.trim()
	}
	return len(p), nil
}

func (t *tail) trim() {
	if over := len(t.kept) - maxStderr; over > 0 {
		t.cut = true
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
}

// text is the end of an error's text: empty, or a colon and what was written.
func (t *tail) text() string {
	t.trim()
	text := t.kept
	for t.cut && len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:] // the rest of a character
	}
	text = bytes.ToValidUTF8(bytes.TrimSpace(text), replacement)
	text = bytes.ReplaceAll(text, []byte{0}, replacement) // where C programs end a text
	switch {
	case len(text) == 0:
		return ""
	case t.cut:
		return ": …" + string(text)
	default:
		return ": " + string(text)
	}
}
