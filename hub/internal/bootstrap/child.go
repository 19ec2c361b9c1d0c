package bootstrap

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/logkey"
)

const (
	// maxStage bounds a line of the child; the longest has a sentence or two.
	maxStage = 64 << 10
	// maxStages bounds what one child may say.
	maxStages = 1000
	// maxComplaint is how much of its standard error is kept.
	maxComplaint = 4 << 10
	// farewell is how long a child may take to end once nothing is wanted.
	farewell = 5 * time.Second
)

// child is one process.
type child struct {
	log    *slog.Logger
	stdin  io.WriteCloser
	cancel context.CancelFunc // kills it
	ended  chan struct{}      // closed when it is gone and all it said was read

	mu      sync.Mutex // guards what follows
	stages  []install.Stage
	changed chan struct{} // closed and replaced with each stage
	secrets []string      // what its complaints must not show
	failure error         // why it is gone
}

// start starts a child that outlives ctx: an installation is not cut because a
// request ended. It lives no longer than Config.Lifetime.
func (i *Installer) start(ctx context.Context, secrets []string) (*Run, error) {
	life, cancel := context.WithTimeout(context.WithoutCancel(ctx), i.cfg.Lifetime)
	cmd := exec.CommandContext(life, i.cfg.Binary, "install") //nolint:gosec // from the hub's own configuration
	cmd.Env = []string{}                                      // nil would be the hub's own, with its secrets and proxies
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // Ctrl-C is for the hub, which then decides
	cmd.WaitDelay = farewell
	complaint := &tail{most: maxComplaint}
	cmd.Stderr = complaint
	c := &child{log: i.cfg.Logger, cancel: cancel, ended: make(chan struct{}), changed: make(chan struct{}), secrets: secrets}
	var err error
	if c.stdin, err = cmd.StdinPipe(); err != nil {
		cancel()
		return nil, fmt.Errorf("open a pipe to the installer: %w", err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		cancel()
		return nil, fmt.Errorf("open a pipe from the installer: %w", err)
	}
	if err := cmd.Start(); err != nil {
		cancel()
		return nil, fmt.Errorf("start %s (agentBinary): %w", i.cfg.Binary, err)
	}
	go func() { // ends with the process, whose lifetime is bounded; Close and every reader wait on ended
		defer func() { <-i.slots }()
		defer close(c.ended)
		defer cancel()
		c.read(stdout)
		c.reaped(life, cmd.Wait(), complaint)
	}()
	return &Run{child: c, cfg: &i.cfg}, nil
}

// read takes in what the child says, until it says nothing more.
func (c *child) read(stdout io.Reader) {
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, maxStage)
	for lines.Scan() {
		var s install.Stage
		if json.Unmarshal(lines.Bytes(), &s) != nil || s.Stage == "" {
			s = install.Stage{
				Stage: install.Failed, Reason: install.Broken,
				Message: "the installer does not speak this hub's language; agentBinary must be the agent of the hub's own version",
			}
			c.cancel()
		}
		if !c.add(s) {
			c.cancel()
			break
		}
	}
	time.AfterFunc(farewell, c.cancel) // it has closed its output, so it should be gone
}

func (c *child) add(s install.Stage) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stages) >= maxStages {
		return false
	}
	c.stages = append(c.stages, s)
	close(c.changed)
	c.changed = make(chan struct{})
	return true
}

// reaped notes how the child ended. What it wrote to its standard error is for
// the hub's log, without the secrets that it was given.
func (c *child) reaped(ctx context.Context, err error, complaint *tail) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failure = ErrClosed
	text := complaint.String()
	for _, s := range c.secrets {
		text = strings.ReplaceAll(text, s, "[redacted]")
		for line := range strings.SplitSeq(s, "\n") { // of a key in PEM
			if len(line) >= 16 {
				text = strings.ReplaceAll(text, line, "[redacted]")
			}
		}
	}
	c.secrets = nil
	if err != nil && text != "" {
		c.log.ErrorContext(context.WithoutCancel(ctx), "installer of the agent ended", slog.Any(logkey.Error, err), slog.String(logkey.Message, text))
	}
	close(c.changed)
	c.changed = make(chan struct{})
}

func (c *child) hide(secret string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = append(c.secrets, secret)
}

func (c *child) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.stages)
}

// stage waits for the stage of a number.
func (c *child) stage(ctx context.Context, number int) (install.Stage, error) {
	for {
		c.mu.Lock()
		changed, failure := c.changed, c.failure
		if number < len(c.stages) {
			s := c.stages[number]
			c.mu.Unlock()
			return s, nil
		}
		c.mu.Unlock()
		if failure != nil {
			return install.Stage{}, failure
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return install.Stage{}, context.Cause(ctx)
		}
	}
}

// send writes one line. A child that does not read it is killed when ctx ends.
func (c *child) send(ctx context.Context, message any) error {
	line, err := json.Marshal(message)
	if err != nil {
		return fmt.Errorf("encode message to the installer: %w", err)
	}
	line = append(line, '\n')
	defer clear(line)
	stop := context.AfterFunc(ctx, c.cancel)
	_, err = c.stdin.Write(line)
	if !stop() {
		return context.Cause(ctx)
	}
	if err != nil { // it is gone; what it said last is the reason
		<-c.ended
		if s := c.last(); s.Stage == install.Failed {
			return &Error{Reason: s.Reason, Message: s.Message}
		}
		return ErrClosed
	}
	return nil
}

func (c *child) last() install.Stage {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.stages) == 0 {
		return install.Stage{}
	}
	return c.stages[len(c.stages)-1]
}

// close tells the child that nothing more comes.
func (c *child) close(wait bool) {
	_ = c.stdin.Close()
	if !wait {
		return
	}
	patience := time.NewTimer(farewell)
	defer patience.Stop()
	select {
	case <-c.ended:
	case <-patience.C:
		c.cancel()
		<-c.ended
	}
}

// tail keeps the last bytes that were written to it.
type tail struct {
	mu   sync.Mutex // guards data
	data []byte
	most int
}

// Write never fails.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.data = append(t.data, p...)
	if over := len(t.data) - t.most; over > 0 {
		t.data = append(t.data[:0], t.data[over:]...)
	}
	return len(p), nil
}

// String is what was kept, without the line that was cut at its begin.
func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	text := t.data
	if len(text) == t.most {
		if at := bytes.IndexByte(text, '\n'); at >= 0 {
			text = text[at+1:]
		}
	}
	return strings.TrimSpace(string(text))
}
