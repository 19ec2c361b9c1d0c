package hubapi

import (
	"context"
	"fmt"
	"iter"
	"time"
)

// ReleaseFailedError says that a release settled without becoming what was
// wanted.
type ReleaseFailedError struct {
	Release Release
}

// Error gives the agent's reason.
func (e *ReleaseFailedError) Error() string {
	r := e.Release
	msg := r.Status.Message
	if msg == "" {
		msg = r.Status.Reason
	}
	out := fmt.Sprintf("release %s in cluster %s is %s", r.Name, r.Cluster.Name, r.Status.Phase)
	if msg != "" {
		out += ": " + msg
	}
	if r.Status.RetryAt != nil {
		out += fmt.Sprintf(" (attempt %d of %d; the next is due %s)",
			r.Status.Attempts, r.Spec.MaxAttempts, r.Status.RetryAt.UTC().Format(time.RFC3339))
	}
	return out
}

// WatchRelease gives a release as it is, and again each time that it changes,
// until ctx ends or the caller stops. It rides over a hub that is away for a
// while. It ends with a *Problem of CodeNotFound once the release is gone, and
// with ctx's cause when ctx ends.
func (c *Client) WatchRelease(ctx context.Context, cluster, name string) iter.Seq2[Release, error] {
	return func(yield func(Release, error) bool) {
		ctx, cancel := context.WithCancel(ctx)
		wake := make(chan struct{}, 1)
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.wakeOn(ctx, EventQuery{Cluster: cluster, FromNow: true}, name, wake)
		}()
		defer func() { cancel(); <-done }()

		w := watcher{c: c, cluster: cluster, name: name}
		for {
			r, changed, err := w.look(ctx)
			if err != nil {
				yield(Release{}, err)
				return
			}
			if changed && !yield(r, nil) {
				return
			}
			if !c.idle(ctx, wake) {
				yield(Release{}, fmt.Errorf("watch release %s: %w", name, context.Cause(ctx)))
				return
			}
		}
	}
}

// WaitRelease waits until the agent settled the release's generation or a
// later one, and tells seen, which may be nil, of each change on the way. A
// release that failed is a *ReleaseFailedError; ctx bounds the wait.
func (c *Client) WaitRelease(ctx context.Context, cluster, name string, generation int64, seen func(Release)) (Release, error) {
	var last Release
	for r, err := range c.WatchRelease(ctx, cluster, name) {
		if err != nil {
			return last, err
		}
		last = r
		if seen != nil {
			seen(r)
		}
		if r.Status.ObservedGeneration < generation || !r.Settled() {
			continue
		}
		if r.Status.Phase == PhaseFailed {
			return r, &ReleaseFailedError{Release: r}
		}
		return r, nil
	}
	return last, fmt.Errorf("wait for release %s: %w", name, context.Cause(ctx))
}

// WaitReleaseGone waits until a deleted release is gone.
func (c *Client) WaitReleaseGone(ctx context.Context, cluster, name string, seen func(Release)) error {
	for r, err := range c.WatchRelease(ctx, cluster, name) {
		if IsNotFound(err) {
			return nil
		}
		if err != nil {
			return err
		}
		if seen != nil {
			seen(r)
		}
		if r.DeletedAt == nil {
			return fmt.Errorf("wait for release %s to be gone: it was applied again", name)
		}
	}
	return fmt.Errorf("wait for release %s to be gone: %w", name, context.Cause(ctx))
}

// WaitCluster waits until ok says so of the cluster.
func (c *Client) WaitCluster(ctx context.Context, cluster string, ok func(Cluster) bool) (Cluster, error) {
	ctx, cancel := context.WithCancel(ctx)
	wake := make(chan struct{}, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.wakeOn(ctx, EventQuery{Cluster: cluster, FromNow: true}, "", wake)
	}()
	defer func() { cancel(); <-done }()
	for {
		cl, err := c.Cluster(ctx, cluster)
		switch {
		case err == nil && ok(cl):
			return cl, nil
		case err != nil && !IsUnavailable(err):
			return cl, err
		}
		if !c.idle(ctx, wake) {
			return cl, fmt.Errorf("wait for cluster %s: %w", cluster, context.Cause(ctx))
		}
	}
}

// watcher remembers what it showed last.
type watcher struct {
	c             *Client
	cluster, name string
	shown         bool
	last          fingerprint
}

// fingerprint is what of a release is worth showing again.
type fingerprint struct {
	id         string
	generation int64
	updatedAt  time.Time
	deleted    bool
	state      ClusterState
	status     string
}

func (w *watcher) look(ctx context.Context) (r Release, changed bool, err error) {
	r, err = w.c.Release(ctx, w.cluster, w.name)
	if IsUnavailable(err) {
		return Release{}, false, nil // the hub is away; look again later
	}
	if err != nil {
		return Release{}, false, err
	}
	f := fingerprint{
		id: r.ID, generation: r.Generation, updatedAt: r.UpdatedAt, deleted: r.DeletedAt != nil,
		state: r.Cluster.State,
	}
	f.status = fmt.Sprintf("%d %s %s %s %d/%d %s %d %d", r.Status.ObservedGeneration, r.Status.Phase, r.Status.Reason,
		r.Status.Message, r.Status.Ready, r.Status.Total, r.Status.WaitingFor, r.Status.Attempts, len(r.Status.Drift))
	changed = !w.shown || f != w.last
	w.shown, w.last = true, f
	return r, changed, nil
}

// wakeOn puts a token into wake for every event about subject (all, when it is
// empty), and when a stream was opened, since what happened before that was
// seen by nobody. When events cannot be had the poll is left.
func (c *Client) wakeOn(ctx context.Context, q EventQuery, subject string, wake chan<- struct{}) {
	knock := func() {
		select {
		case wake <- struct{}{}:
		default:
		}
	}
	for e, err := range c.follow(ctx, q, knock) {
		if err != nil {
			return
		}
		if subject == "" || e.Subject == subject || e.Subject == "" {
			knock()
		}
	}
}

// idle waits for a wake-up or the next poll; false says that ctx ended.
func (c *Client) idle(ctx context.Context, wake <-chan struct{}) bool {
	t := time.NewTimer(c.poll)
	defer t.Stop()
	select {
	case <-wake:
		return true
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
