package install

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
	"github.com/budecosystem/budcluster/internal/pki"
)

// Mode is which of the two commands runs.
type Mode string

// The modes.
const (
	// ModeInstall installs, and may take it back.
	ModeInstall Mode = "install"
	// ModeUninstall removes an agent of the hub that is there.
	ModeUninstall Mode = "uninstall"
)

// installTimeout bounds what goes on after the hub has left.
const installTimeout = 10 * time.Minute

// watchEvery is how often the agent's pods are looked at while they start.
const watchEvery = 2 * time.Second

// Config is what Run needs.
type Config struct {
	Mode Mode
	In   io.Reader
	Out  io.Writer
	Now  func() time.Time
}

// Run has the conversation until In or ctx ends. What goes wrong with the
// installation is a stage, not an error.
func Run(ctx context.Context, cfg Config) error {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	s := &session{cfg: cfg, orders: make(chan install.Order)}
	lines := bufio.NewScanner(cfg.In)
	lines.Buffer(nil, install.MaxLine)
	if !lines.Scan() {
		return errors.New("no request came; this command is started by a hub, with the request on standard input")
	}
	var req install.Request
	if err := json.Unmarshal(lines.Bytes(), &req); err != nil {
		s.failed(fail(install.Broken, "the request of the hub is not one that this agent understands; agentBinary must be the agent of the hub's own version"))
		return nil
	}
	// The reader ends with stdin; a process has no other, and its end is ours.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go s.listen(ctx, lines)
	s.converse(ctx, req)
	return nil
}

// session is one conversation.
type session struct {
	cfg     Config
	orders  chan install.Order // closed when stdin has ended
	secrets []string

	mu sync.Mutex // guards cfg.Out
}

func (s *session) listen(ctx context.Context, lines *bufio.Scanner) {
	defer close(s.orders)
	for lines.Scan() {
		var o install.Order
		if json.Unmarshal(lines.Bytes(), &o) != nil {
			return
		}
		select {
		case s.orders <- o:
		case <-ctx.Done():
			return
		}
	}
}

// say writes a stage. A hub that does not listen any more is no reason to stop.
func (s *session) say(stage install.Stage) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line, err := json.Marshal(stage)
	if err == nil {
		_, _ = s.cfg.Out.Write(append(line, '\n'))
	}
}

func (s *session) failed(err error) {
	f, ok := errors.AsType[*failure](err)
	if !ok {
		f = fail(install.Broken, "%v", err)
	}
	s.say(install.Stage{Stage: install.Failed, Reason: f.reason, Message: clean(f.message, s.secrets)})
}

// converse leads through the stages.
func (s *session) converse(ctx context.Context, req install.Request) {
	c, err := s.connect(req)
	if err != nil {
		s.failed(err)
		return
	}
	s.say(install.Stage{Stage: install.Checked, Server: c.server})
	p, ok := s.ready(ctx, c)
	if !ok {
		return
	}
	var order install.Order
	select {
	case <-ctx.Done():
		return
	case o, more := <-s.orders:
		if !more || !o.Go {
			return // nothing was done, nothing is to be undone
		}
		order = o
	}
	if s.cfg.Mode == ModeUninstall {
		s.undo(ctx, c.remove)
		return
	}
	s.work(ctx, c, p, order)
}

// connect makes the clients from the request. It contacts nobody.
func (s *session) connect(req install.Request) (*cluster, error) {
	if req.Namespace == "" {
		req.Namespace = install.DefaultNamespace
	}
	if req.Release == "" {
		req.Release = install.DefaultRelease
	}
	if len(req.Hub.Addresses) == 0 || req.Hub.Pin == "" {
		return nil, fail(install.Broken, "the request of the hub does not say which hub it is")
	}
	parsed, err := kubeconfig.Parse([]byte(req.Kubeconfig), kubeconfig.Options{
		Now: s.cfg.Now(), AllowInsecure: req.AllowInsecure, Addresses: req.Addresses,
	})
	if err != nil {
		return nil, fail(install.Invalid, "%s", kubeconfig.Errors(err)[0])
	}
	s.secrets = parsed.Secrets()
	rc, err := access(parsed, req.Addresses)
	if err != nil {
		return nil, fail(install.Invalid, "%v", err)
	}
	c, err := open(rc, req, s.cfg.Now)
	if err != nil {
		return nil, fail(install.Broken, "%v", err)
	}
	return c, nil
}

// ready asks the cluster all that can be asked before anything is changed. It
// stops asking when the hub has left.
func (s *session) ready(ctx context.Context, c *cluster) (p present, ok bool) {
	stage := install.Stage{Stage: install.Ready}
	err := func() (err error) {
		if stage.ServerVersion, stage.ClusterUID, err = c.identify(ctx); err != nil {
			return err
		}
		if err = c.allowed(ctx); err != nil {
			return err
		}
		if p, err = c.look(ctx); err != nil {
			return err
		}
		if s.cfg.Mode == ModeUninstall {
			return removable(p, c.hub)
		}
		_, err = decide(p, c.hub, s.cfg.Now())
		return err
	}()
	if err != nil {
		s.failed(err)
		return p, false
	}
	if last, there := p.history.Latest(); there && last.Status != helm.StatusUninstalled {
		stage.AgentVersion = p.version
	}
	s.say(stage)
	return p, true
}

// removable refuses to remove an agent of another hub.
func removable(p present, hub install.Hub) error {
	if _, there := p.history.Latest(); there && !ours(p, hub) || len(p.pins) > 0 && !ours(p, hub) {
		return foreign(p)
	}
	return nil
}

// work installs, watches, and takes back when asked to.
func (s *session) work(ctx context.Context, c *cluster, p present, order install.Order) {
	s.secrets = append(s.secrets, order.JoinToken)
	working, cancel := context.WithTimeoutCause(ctx, installTimeout, fmt.Errorf("it took longer than %s", installTimeout))
	defer cancel()
	installed := make(chan struct{})
	done := make(chan struct{})
	go func() { // waited for below, by done
		defer close(done)
		ok := s.install(working, c, p, order)
		close(installed)
		if ok {
			s.watch(working, c)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			<-done
			return
		case o, more := <-s.orders:
			switch {
			case !more: // the hub left: end what must not be half done
				<-installed
				cancel()
				<-done
				return
			case o.Undo:
				cancel()
				<-done
				s.undo(ctx, c.undo)
				return
			}
		}
	}
}

func (s *session) install(ctx context.Context, c *cluster, p present, order install.Order) bool {
	s.say(install.Stage{Stage: install.Installing})
	var values map[string]any
	if len(order.Values) > 0 {
		if err := json.Unmarshal(order.Values, &values); err != nil {
			s.failed(fail(install.Invalid, "the values of the agent's chart are no object"))
			return false
		}
	}
	if order.JoinToken != "" {
		token, err := pki.ParseJoinToken(order.JoinToken)
		if err != nil || token.Pin != c.hub.Pin {
			s.failed(fail(install.Broken, "the join token is not one of this hub"))
			return false
		}
	}
	if err := c.install(ctx, p, values, order.JoinToken); err != nil {
		s.failed(stopped(ctx, err, s.secrets))
		return false
	}
	s.say(install.Stage{Stage: install.Installed})
	return true
}

// watch says what the agent's pods wait for, until they are ready: the agent
// is when it is connected to its hub.
func (s *session) watch(ctx context.Context, c *cluster) {
	said := ""
	_ = poll(ctx, watchEvery, func() (bool, error) { // ends with ctx, and then nobody asks why
		ready, why, err := c.agentReady(ctx)
		if err != nil || ctx.Err() != nil {
			return false, nil //nolint:nilerr // asked again
		}
		if ready {
			s.say(install.Stage{Stage: install.Connected})
			return true, nil
		}
		if why != said {
			said = why
			s.say(install.Stage{Stage: install.Waiting, Message: clean(why, s.secrets)})
		}
		return false, nil
	})
}

// undo runs how, which takes something away, and says what is left.
func (s *session) undo(ctx context.Context, how func(context.Context) ([]string, error)) {
	s.say(install.Stage{Stage: install.Undoing})
	ctx, cancel := context.WithTimeoutCause(ctx, installTimeout, fmt.Errorf("it took longer than %s", installTimeout))
	defer cancel()
	left, err := how(ctx)
	if err != nil {
		s.failed(stopped(ctx, err, s.secrets))
		return
	}
	for i := range left {
		left[i] = clean(left[i], s.secrets)
	}
	s.say(install.Stage{Stage: install.Undone, Left: left})
}
