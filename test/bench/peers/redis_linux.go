package main

import (
	"os/exec"
	"syscall"
)

// endWithParent lets the kernel end cmd when this program is killed.
func endWithParent(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
