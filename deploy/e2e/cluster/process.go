package cluster

import (
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
)

// spawner starts the cluster's processes, all from one OS thread: the kernel
// sends the signal of a parent's death when the starting thread ends, and Go
// gives no other thread a promise to live.
type spawner struct {
	detach   bool
	requests chan func()
}

func newSpawner(detach bool) *spawner {
	s := &spawner{detach: detach, requests: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for request := range s.requests {
			request()
		}
	}()
	return s
}

// close lets the thread end. Call it when every process has ended.
func (s *spawner) close() { close(s.requests) }

// program to start.
type spawn struct {
	name  string
	log   string
	path  string
	args  []string
	dir   string
	env   []string
	clone uintptr // new namespaces
	stdin bool    // give it a pipe to read orders from
}

// started is a running child.
type started struct {
	proc

	stdin io.WriteCloser
	// exited closes when the process has ended and err is set.
	exited chan struct{}
	err    error
}

func (s *spawner) start(what spawn) (*started, error) {
	if err := os.MkdirAll(filepath.Dir(what.log), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(what.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()           // the child has its own
	cmd := exec.Command(what.path, what.args...) //nolint:noctx // outlives any one call; Down ends it
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = what.dir, what.env, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Cloneflags: what.clone}
	if !s.detach {
		cmd.SysProcAttr.Pdeathsig = syscall.SIGKILL
	}
	child := &started{exited: make(chan struct{})}
	if what.stdin {
		if child.stdin, err = cmd.StdinPipe(); err != nil {
			return nil, err
		}
	}
	done := make(chan error, 1)
	s.requests <- func() { done <- cmd.Start() }
	if err := <-done; err != nil {
		return nil, fmt.Errorf("start %s: %w", what.name, err)
	}
	child.proc = procOf(what.name, cmd.Process.Pid)
	go func() {
		child.err = cmd.Wait()
		close(child.exited)
	}()
	return child, nil
}

// tail is the end of a log, for an error message.
func tail(path string) string {
	const most = 2000
	content, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	if len(content) > most {
		content = content[len(content)-most:]
	}
	return "\n--- the end of " + path + " ---\n" + string(content)
}
