package release

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

const (
	// lockDuration is how long a lock lives without renewal: an agent that
	// died is replaced after it. Renewed three times in that time.
	lockDuration = 15 * time.Second
	lockRenewal  = lockDuration / 3
)

// errLocked: another agent holds the lock and renews it.
var errLocked = errors.New("another agent holds the lock")

// locks gives one agent at a time the right to change a release, by a Lease
// per release. Leader election alone does not: an old leader may still be in
// the middle of an operation when the new one begins.
type locks struct {
	typed     kubernetes.Interface
	namespace string
	// identity is "<pod>_<process>".
	identity string
	now      func() time.Time
	seen     *sightings
}

func leaseName(release string) string { return "release-" + release }

// acquire takes the lock of a release. The context that it returns ends when
// the lock is lost, with helm.ErrFenced as its cause; release gives it back.
func (l *locks) acquire(ctx context.Context, name string) (held context.Context, release func(), err error) {
	if err := l.take(ctx, name); err != nil {
		return nil, nil, err
	}
	held, cancel := context.WithCancelCause(ctx)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.renew(ctx, name, stop, cancel)
	}()
	return held, func() {
		close(stop)
		<-done
		cancel(nil)
		// The lock is given back even when the agent stops.
		free, end := context.WithTimeout(context.WithoutCancel(ctx), lockRenewal)
		defer end()
		_ = l.write(free, name, func(lease *coordinationv1.Lease) error {
			if holder(lease) == l.identity {
				lease.Spec.HolderIdentity = nil
			}
			return nil
		})
	}, nil
}

// take makes us the holder, if nobody else is alive.
func (l *locks) take(ctx context.Context, name string) error {
	return l.write(ctx, name, func(lease *coordinationv1.Lease) error {
		if !l.lapsed(lease) {
			return fmt.Errorf("%w: %s", errLocked, holder(lease))
		}
		now := metav1.NewMicroTime(l.now())
		seconds := int32(lockDuration / time.Second)
		lease.Spec = coordinationv1.LeaseSpec{
			HolderIdentity: &l.identity, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now,
		}
		return nil
	})
}

func holder(lease *coordinationv1.Lease) string {
	if lease.Spec.HolderIdentity == nil {
		return ""
	}
	return *lease.Spec.HolderIdentity
}

// lapsed reports whether the holder is gone: nobody, ourselves, an earlier
// process of our own pod, or one whose renewals we have not seen for the
// lease's duration by our own clock.
func (l *locks) lapsed(lease *coordinationv1.Lease) bool {
	who := holder(lease)
	if who == "" || who == l.identity || pod(who) == pod(l.identity) {
		return true
	}
	var renewed time.Time
	if lease.Spec.RenewTime != nil {
		renewed = lease.Spec.RenewTime.Time
	}
	return l.now().Sub(l.seen.since(lease.Name, who, renewed, l.now())) >= lockDuration
}

func pod(identity string) string {
	name, _, _ := strings.Cut(identity, "_")
	return name
}

// renew keeps the lock until stop. When it cannot be renewed for the whole
// duration, or somebody took it, the holder's context ends.
func (l *locks) renew(ctx context.Context, name string, stop <-chan struct{}, lost context.CancelCauseFunc) {
	tick := time.NewTicker(lockRenewal)
	defer tick.Stop()
	renewed := l.now()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
		}
		// An operation that ends because the agent stops still writes its
		// end, so the lock is renewed past the end of ctx.
		once, cancel := context.WithTimeout(context.WithoutCancel(ctx), lockRenewal)
		err := l.write(once, name, func(lease *coordinationv1.Lease) error {
			if holder(lease) != l.identity {
				return errLocked
			}
			now := metav1.NewMicroTime(l.now())
			lease.Spec.RenewTime = &now
			return nil
		})
		cancel()
		switch {
		case err == nil:
			renewed = l.now()
		case errors.Is(err, errLocked) || l.now().Sub(renewed) >= lockDuration-lockRenewal:
			lost(fmt.Errorf("%w: %w", helm.ErrFenced, err))
			return
		}
	}
}

// write changes the Lease, or makes it; a conflict is tried again.
func (l *locks) write(ctx context.Context, name string, change func(*coordinationv1.Lease) error) error {
	leases := l.typed.CoordinationV1().Leases(l.namespace)
	for {
		lease, err := leases.Get(ctx, leaseName(name), metav1.GetOptions{})
		missing := apierrors.IsNotFound(err)
		if missing {
			lease, err = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{
				Name: leaseName(name), Labels: map[string]string{labelManagedBy: managedBy},
			}}, nil
		}
		if err == nil {
			err = change(lease)
		}
		if err != nil {
			return fmt.Errorf("lock release %s: %w", name, err)
		}
		if missing {
			_, err = leases.Create(ctx, lease, metav1.CreateOptions{})
		} else {
			_, err = leases.Update(ctx, lease, metav1.UpdateOptions{})
		}
		if err == nil {
			return nil
		}
		if !apierrors.IsConflict(err) && !apierrors.IsAlreadyExists(err) {
			return fmt.Errorf("lock release %s: %w", name, err)
		}
	}
}

func deleteLease(ctx context.Context, typed kubernetes.Interface, namespace, name string) error {
	err := typed.CoordinationV1().Leases(namespace).Delete(ctx, leaseName(name), metav1.DeleteOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete lock of %s: %w", name, err)
	}
	return nil
}
