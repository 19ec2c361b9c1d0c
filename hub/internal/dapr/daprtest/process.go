package daprtest

import (
	"bytes"
	"fmt"
	"os/exec"
	"sync"
)

// process is a program that runs until it is killed.
type process struct {
	name string
	cmd  *exec.Cmd
	said output
	done chan struct{} // closed when it has ended
}

// begin starts a program. What it says is kept.
func begin(n *network, cmd *exec.Cmd, name string) (*process, error) {
	p := &process{name: name, cmd: cmd, done: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &p.said, &p.said
	if err := n.start(cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// kill ends the program as kill -9 does.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// output keeps the end of what a program says.
type output struct {
	mu   sync.Mutex // guards text
	text bytes.Buffer
}

const keep = 256 << 10

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.text.Len() > 2*keep {
		o.text.Next(o.text.Len() - keep)
	}
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
