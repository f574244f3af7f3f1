package main

import (
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
)

// child is a copy of this program that plays a role.
type child struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout io.Reader
}

// startChild starts a copy of this program: words and a role, as JSON, are its
// arguments. Once its output was read to the end it is to be waited for.
func startChild(ctx context.Context, stderr io.Writer, role any, words ...string) (c child, err error) {
	text, err := json.Marshal(role)
	if err != nil {
		return c, err
	}
	self, err := os.Executable()
	if err != nil {
		return c, err
	}
	c.cmd = exec.CommandContext(ctx, self, append(words, string(text))...)
	c.cmd.Stderr = stderr
	c.cmd.SysProcAttr = childSysProcAttr()
	if c.stdin, err = c.cmd.StdinPipe(); err != nil {
		return c, err
	}
	if c.stdout, err = c.cmd.StdoutPipe(); err != nil {
		return c, err
	}
	return c, c.cmd.Start()
}
