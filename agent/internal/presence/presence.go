package presence

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"reflect"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/metadata"

	"github.com/budecosystem/budcluster/agent/internal/newest"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
)

// Defaults of Config.
const (
	// DefaultDebounce gathers the changes of a moment: a rollout is one answer
	// or two, not twenty.
	DefaultDebounce = 500 * time.Millisecond
	// DefaultAgain is how often a kind is looked for that the API server does
	// not have, or that may not be listed.
	DefaultAgain = 30 * time.Second
)

// Kinds finds the resource of a kind; *helm.Kinds. ok is false when the API
// server does not have it.
type Kinds interface {
	Resource(ctx context.Context, gvk schema.GroupVersionKind) (gvr schema.GroupVersionResource, namespaced, ok bool, err error)
}

// Config is what a Watcher needs.
type Config struct {
	Typed    kubernetes.Interface
	Metadata metadata.Interface
	Kinds    Kinds
	Logger   *slog.Logger
	Debounce time.Duration
	Again    time.Duration
}

// Watcher answers probes.
type Watcher struct {
	cfg     Config
	asked   newest.Value[[]question]
	answers newest.Value[[]facts.Presence]

	mu     sync.Mutex // guards probes
	probes []facts.Probe
}

// question is a probe that was understood, or says why not.
type question struct {
	facts.Probe
	selector labels.Selector
	problem  string
}

// New checks the configuration. It contacts nobody.
func New(cfg Config) (*Watcher, error) {
	cfg.Debounce = cmp.Or(cfg.Debounce, DefaultDebounce)
	cfg.Again = cmp.Or(cfg.Again, DefaultAgain)
	if cfg.Typed == nil || cfg.Metadata == nil || cfg.Kinds == nil || cfg.Logger == nil {
		return nil, errors.New("presence needs clients, kinds and a logger")
	}
	return &Watcher{cfg: cfg}, nil
}

// Ask replaces what is looked for. The same again changes nothing.
func (w *Watcher) Ask(probes []facts.Probe) {
	probes = slices.Clone(probes[:min(len(probes), facts.MaxProbes)])
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.probes != nil && reflect.DeepEqual(w.probes, probes) {
		return
	}
	w.probes = probes
	questions := make([]question, 0, len(probes))
	for _, p := range probes {
		questions = append(questions, understand(p))
	}
	w.asked.Set(questions)
}

func understand(p facts.Probe) question {
	q := question{Probe: p, selector: labels.Everything()}
	if p.Name == "" || p.APIVersion == "" || p.Kind == "" {
		q.problem = "the probe does not say what to look for"
		return q
	}
	selector, err := labels.Parse(p.Selector)
	if err != nil {
		q.problem = "the probe's selector cannot be read: " + err.Error()
		return q
	}
	q.selector = selector
	return q
}

// Watch wakes when the answers changed.
func (w *Watcher) Watch() (wake <-chan struct{}, take func() ([]facts.Presence, bool), cancel func()) {
	return w.answers.Watch()
}

// Run looks until ctx ends.
func (w *Watcher) Run(ctx context.Context) error {
	wake, take, cancel := w.asked.Watch()
	defer cancel()
	var round *look
	defer func() { round.end() }()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		}
		questions, fresh := take()
		if !fresh {
			continue
		}
		round.end()
		round = w.begin(ctx, questions)
	}
}

// look is the watching for one set of questions.
type look struct {
	w         *Watcher
	questions []question
	changed   chan struct{} // of size one
	cancel    context.CancelFunc
	done      chan struct{} // closed when all has ended

	mu      sync.Mutex // guards what the sources hold
	sources map[schema.GroupVersionKind]*source
}

func (w *Watcher) begin(ctx context.Context, questions []question) *look {
	ctx, cancel := context.WithCancel(ctx)
	l := &look{
		w: w, questions: questions, changed: make(chan struct{}, 1), cancel: cancel, done: make(chan struct{}),
		sources: map[schema.GroupVersionKind]*source{},
	}
	for _, q := range questions {
		if q.problem != "" {
			continue
		}
		gvk := schema.FromAPIVersionAndKind(q.APIVersion, q.Kind)
		s, ok := l.sources[gvk]
		if !ok {
			s = &source{look: l, gvk: gvk, seen: map[string]sighting{}}
			l.sources[gvk] = s
		}
		s.questions = append(s.questions, q)
	}
	w.cfg.Logger.DebugContext(ctx, "looking for what the hub asks for", slog.Int(logkey.Count, len(questions)))
	g := &run.Group{}
	g.Add("answers", l.publish)
	for gvk, s := range l.sources {
		g.Add(gvk.String(), s.run)
	}
	go func() {
		defer close(l.done)
		if err := g.Run(ctx); err != nil && ctx.Err() == nil {
			w.cfg.Logger.ErrorContext(ctx, "looking for what the hub asks for ended", slog.Any(logkey.Error, err))
		}
	}()
	return l
}

// end waits until nothing of the look runs any more.
func (l *look) end() {
	if l == nil {
		return
	}
	l.cancel()
	<-l.done
}

// publish gives the answers whenever they differ from the last.
func (l *look) publish(ctx context.Context) error {
	var last []facts.Presence
	gate := time.NewTimer(0)
	defer gate.Stop()
	<-gate.C
	l.stir() // questions that need no source
	waiting := false
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-l.changed:
			if waiting {
				continue
			}
			if last != nil { // somebody waits for the first answers
				waiting = true
				gate.Reset(l.w.cfg.Debounce)
				continue
			}
		case <-gate.C:
			waiting = false
		}
		answers, complete := l.answer()
		if complete && (last == nil || !reflect.DeepEqual(last, answers)) {
			last = answers
			l.w.answers.Set(answers)
		}
	}
}

func (l *look) stir() {
	select {
	case l.changed <- struct{}{}:
	default:
	}
}

// answer answers every question; complete is false while a kind was neither
// listed nor refused.
func (l *look) answer() (answers []facts.Presence, complete bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, s := range l.sources {
		if !s.settled {
			return nil, false
		}
	}
	answers = []facts.Presence{}
	for _, q := range l.questions {
		if q.problem != "" {
			answers = append(answers, facts.Presence{Probe: q.Name, State: facts.PresenceUnknown, Reason: q.problem})
			continue
		}
		answers = append(answers, l.sources[schema.FromAPIVersionAndKind(q.APIVersion, q.Kind)].answerLocked(q)...)
	}
	slices.SortStableFunc(answers, facts.ComparePresence)
	return answers, true
}
