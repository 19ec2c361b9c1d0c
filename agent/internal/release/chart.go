package release

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/internal/logkey"
)

const (
	// chartPart is how much of a chart one ConfigMap holds; the API server's
	// limit for the whole object is 1 MiB.
	chartPart = 900 << 10
	// maxChart is what the hub accepts, too.
	maxChart = 20 << 20

	labelChart       = "budcluster.io/chart"
	annotationDigest = "budcluster.io/chart-digest"
	annotationParts  = "budcluster.io/chart-parts"
	chartKey         = "part"
)

// ErrHubAway is what a ChartFetcher returns while there is no link.
var ErrHubAway = errors.New("the hub is away")

// ChartFetcher gets a chart from the hub by its digest.
type ChartFetcher interface {
	// FetchChart returns the packed chart, or ErrHubAway.
	FetchChart(ctx context.Context, digest string) ([]byte, error)
}

// errChartRefused: the bytes are not what the digest names.
var errChartRefused = errors.New("the chart is not what its digest names")

// charts keeps packed charts in ConfigMaps of the agent's namespace, so that
// a cluster without its hub can still repair and repeat an install.
type charts struct {
	typed     kubernetes.Interface
	namespace string
	fetcher   ChartFetcher
	log       *slog.Logger
}

// get returns a chart from the cache, or from the hub.
func (c *charts) get(ctx context.Context, digest string) ([]byte, error) {
	cached, err := c.read(ctx, digest)
	if err != nil {
		return nil, err
	}
	if cached != nil {
		return cached, nil
	}
	data, err := c.fetcher.FetchChart(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("fetch chart %s: %w", digest, err)
	}
	if len(data) > maxChart {
		return nil, fmt.Errorf("chart %s has %d bytes, more than %d: %w", digest, len(data), maxChart, errChartRefused)
	}
	if got := digestOf(data); got != digest {
		return nil, fmt.Errorf("the hub sent %s for chart %s: %w", got, digest, errChartRefused)
	}
	if err := c.write(ctx, digest, data); err != nil {
		// The chart is here; only the next restart has to fetch it again.
		c.log.WarnContext(ctx, "chart is not cached", slog.String(logkey.Digest, digest), slog.Any(logkey.Error, err))
	}
	return data, nil
}

func digestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// short is the digest's part in names and labels.
func short(digest string) string {
	digest = strings.TrimPrefix(digest, "sha256:")
	return digest[:min(12, len(digest))]
}

func (c *charts) name(digest string, part int) string {
	return "chart-" + short(digest) + "-" + strconv.Itoa(part)
}

// read returns nil when the chart is not cached whole and sound.
func (c *charts) read(ctx context.Context, digest string) ([]byte, error) {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	var data []byte
	for part, parts := 0, 1; part < parts; part++ {
		m, err := maps.Get(ctx, c.name(digest, part), metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return nil, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read cached chart %s: %w", digest, err)
		}
		if m.Annotations[annotationDigest] != digest {
			return nil, nil
		}
		if n, err := strconv.Atoi(m.Annotations[annotationParts]); err == nil {
			parts = n
		}
		if data = append(data, m.BinaryData[chartKey]...); len(data) > maxChart {
			return nil, nil
		}
	}
	if digestOf(data) != digest {
		c.log.WarnContext(ctx, "cached chart is damaged and is fetched again", slog.String(logkey.Digest, digest))
		return nil, nil
	}
	return data, nil
}

func (c *charts) write(ctx context.Context, digest string, data []byte) error {
	parts := slices.Collect(slices.Chunk(data, chartPart))
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	for i, part := range parts {
		m := &corev1.ConfigMap{
			ObjectMeta: metav1.ObjectMeta{
				Name:        c.name(digest, i),
				Labels:      map[string]string{labelManagedBy: managedBy, labelChart: short(digest)},
				Annotations: map[string]string{annotationDigest: digest, annotationParts: strconv.Itoa(len(parts))},
			},
			BinaryData: map[string][]byte{chartKey: part},
		}
		_, err := maps.Create(ctx, m, metav1.CreateOptions{FieldManager: managedBy})
		if apierrors.IsAlreadyExists(err) {
			_, err = maps.Update(ctx, m, metav1.UpdateOptions{FieldManager: managedBy})
		}
		if err != nil {
			return fmt.Errorf("write part %d of chart %s: %w", i, digest, err)
		}
	}
	return nil
}

// collect deletes the cached charts that no release uses.
func (c *charts) collect(ctx context.Context, used map[string]bool) error {
	maps := c.typed.CoreV1().ConfigMaps(c.namespace)
	list, err := maps.List(ctx, metav1.ListOptions{LabelSelector: labelChart + "," + labelManagedBy + "=" + managedBy})
	if err != nil {
		return fmt.Errorf("list cached charts: %w", err)
	}
	var errs []error
	for i := range list.Items {
		m := &list.Items[i]
		if used[m.Annotations[annotationDigest]] {
			continue
		}
		if err := maps.Delete(ctx, m.Name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			errs = append(errs, fmt.Errorf("delete cached chart %s: %w", m.Name, err))
		}
	}
	return errors.Join(errs...)
}
