package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/internal/handlers"
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

	Meta map[string]string `json:"meta"`
}

// parseLine is the job that a line describes, checked.
func parseLine(text []byte) (n jobs.New, err error) {
	var l jobLine
	if err := handlers.DecodeStrictly(text, &l); err != nil {
		return n, err
	}
	if l.JobType == "" {
		return n, errors.New(`"job_type" is missing`)
	}
	if l.Payload == nil {
		l.Payload = json.RawMessage(emptyPayload)
	}
	n = jobs.New{
		Type: l.JobType, Payload: l.Payload, Queue: l.Queue, Priority: l.Priority, MaxAttempts: l.MaxAttempts, Meta: l.Meta,
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
