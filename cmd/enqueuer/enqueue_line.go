package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// jobLine is a line of a file of jobs. What may be written in several ways is
// read later, where an error can name the key.
type jobLine struct {
	JobType     string          `json:"job_type"`
	Payload     json.RawMessage `json:"payload"`
	Priority    int             `json:"priority"`
	Queue       string          `json:"queue"`
	RunAt       json.RawMessage `json:"run_at"`
	Delay       json.RawMessage `json:"delay"`
	MaxAttempts int             `json:"max_attempts"`
	Timeout     json.RawMessage `json:"timeout"`
	UniqueKey   string          `json:"unique_key"`
	UniqueFor   jobs.UniqueFor  `json:"unique_for"`
	OnConflict  jobs.OnConflict `json:"on_conflict"`
}

// parseLine is the job that a line describes, checked.
func parseLine(text []byte) (n jobs.New, err error) {
	var l jobLine
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&l); err != nil {
		return n, lineError(err)
	}
	if _, err := d.Token(); err != io.EOF {
		return n, errors.New("more than one JSON value: want one object a line")
	}
	if l.JobType == "" {
		return n, errors.New(`"job_type" is missing`)
	}
	if l.Payload == nil {
		l.Payload = json.RawMessage(emptyPayload)
	}
	n = jobs.New{
		Type: l.JobType, Payload: l.Payload, Queue: l.Queue, Priority: l.Priority, MaxAttempts: l.MaxAttempts,
		Unique: jobs.Unique{Key: l.UniqueKey, For: l.UniqueFor, OnConflict: l.OnConflict},
	}
	if n.Unique.Key == "" && (n.Unique.For != "" || n.Unique.OnConflict != "") {
		return n, errors.New(`"unique_for" and "on_conflict" go with "unique_key"`)
	}
	if n.RunAt, err = lineTime(l.RunAt); err != nil {
		return n, fmt.Errorf(`"run_at": %w`, err)
	}
	if n.Delay, err = lineDuration(l.Delay); err != nil {
		return n, fmt.Errorf(`"delay": %w`, err)
	}
	if n.Timeout, err = lineDuration(l.Timeout); err != nil {
		return n, fmt.Errorf(`"timeout": %w`, err)
	}
	return n, checkJob(n)
}

// lineError says what package json found in words that fit a line of a file.
func lineError(err error) error {
	var kind *json.UnmarshalTypeError
	switch {
	case errors.As(err, &kind) && kind.Field == "":
		return fmt.Errorf("a JSON %s: want an object", kind.Value)
	case errors.As(err, &kind):
		return fmt.Errorf("%q can't be a %s", kind.Field, kind.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON object has no end")
	}
	return errors.New(strings.TrimPrefix(err.Error(), "json: "))
}

// lineTime reads Unix seconds, as a number, or a time as --at takes it.
func lineTime(raw json.RawMessage) (t time.Time, err error) {
	if raw == nil || string(raw) == "null" {
		return t, nil
	}
	return parseTime(unquote(raw))
}

// lineDuration reads seconds, as a number, or a duration as --delay takes it.
func lineDuration(raw json.RawMessage) (time.Duration, error) {
	if raw == nil || string(raw) == "null" {
		return 0, nil
	}
	if text := unquote(raw); text != string(raw) {
		return command.ParseDuration(text)
	}
	return command.ParseDuration(string(raw) + "s")
}

// unquote is the text of a JSON string, and any other value as it is.
func unquote(raw json.RawMessage) string {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		return string(raw)
	}
	return text
}
