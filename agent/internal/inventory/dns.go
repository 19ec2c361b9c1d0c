package inventory

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// dnsServices are where a cluster's DNS is found, the usual ones first. Each
// may be read by its name; the agent's chart names them too.
func dnsServices() []metav1.ObjectMeta {
	return []metav1.ObjectMeta{
		{Namespace: metav1.NamespaceSystem, Name: "kube-dns"}, // also of CoreDNS: kubeadm, k3s, k0s, EKS, GKE, AKS
		{Namespace: "openshift-dns", Name: "dns-default"},
		{Namespace: metav1.NamespaceSystem, Name: "rke2-coredns-rke2-coredns"},
		{Namespace: metav1.NamespaceSystem, Name: "coredns"}, // kubespray
	}
}

// patience is how long a look at the DNS may take.
const patience = 15 * time.Second

// watchDNS looks at the cluster's DNS again and again: a watch of one service
// and a few pods would cost more than the look.
func (c *Collector) watchDNS(ctx context.Context) error {
	tick := time.NewTicker(c.cfg.Tally)
	defer tick.Stop()
	for {
		c.tally(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// tally brings what is not followed event by event up to date. An API server
// that does not answer changes nothing: the probe reports that.
func (c *Collector) tally(ctx context.Context) {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("no answer in %s", patience))
	defer cancel()
	dns, err := c.findDNS(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case err == nil:
		c.cluster.DNS = dns
	case apierrors.IsForbidden(err): // an agent whose chart is older than it
		c.cluster.DNS = nil
	}
	if err != nil {
		c.log.DebugContext(ctx, "the cluster's DNS is not known", slog.Any(logkey.Error, err))
	}
	c.countClaimsLocked()
	c.tallied = true
	c.openLocked()
}

// findDNS looks for the first of the known services.
func (c *Collector) findDNS(ctx context.Context) (*facts.DNS, error) {
	for _, at := range dnsServices() {
		service, err := c.cfg.Client.CoreV1().Services(at.Namespace).Get(ctx, at.Name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("read service %s/%s: %w", at.Namespace, at.Name, err)
		}
		return c.lookAtDNS(ctx, service)
	}
	return &facts.DNS{}, nil
}

// lookAtDNS counts the service's pods that are ready. The agent may list pods
// anyhow, so that it needs no right to endpoints.
func (c *Collector) lookAtDNS(ctx context.Context, service *corev1.Service) (*facts.DNS, error) {
	found := &facts.DNS{Service: service.Namespace + "/" + service.Name}
	if len(service.Spec.Selector) == 0 {
		return found, nil
	}
	pods, err := c.cfg.Client.CoreV1().Pods(service.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: labels.SelectorFromSet(service.Spec.Selector).String(), ResourceVersion: "0", // from the API server's memory
	})
	if err != nil {
		return nil, fmt.Errorf("list pods of service %s: %w", found.Service, err)
	}
	var ready int32
	for i := range pods.Items {
		if isReady(&pods.Items[i]) {
			ready++
		}
	}
	found.Ready = &ready
	return found, nil
}

func isReady(pod *corev1.Pod) bool {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue && pod.DeletionTimestamp == nil
		}
	}
	return false
}
