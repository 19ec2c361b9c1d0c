package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"
	"text/template"

	"sigs.k8s.io/yaml"
)

const (
	featurePrefix = "feature.node.kubernetes.io/"
	features      = "/apis/nfd.k8s-sigs.io/v1alpha1"
)

// workerConfig is what the parts of nfd-worker.conf that we know say.
type workerConfig struct {
	Core struct {
		LabelSources []string `json:"labelSources"`
	} `json:"core"`
	Sources struct {
		PCI struct {
			DeviceClassWhitelist []string `json:"deviceClassWhitelist"`
			DeviceLabelFields    []string `json:"deviceLabelFields"`
		} `json:"pci"`
		Custom []customRule `json:"custom"`
	} `json:"sources"`
}

type customRule struct {
	Name           string `json:"name"`
	LabelsTemplate string `json:"labelsTemplate"`
	MatchFeatures  []struct {
		Feature          string `json:"feature"`
		MatchExpressions map[string]struct {
			Op    string   `json:"op"`
			Value []string `json:"value"`
		} `json:"matchExpressions"`
	} `json:"matchFeatures"`
}

func readWorkerConfig(path string) (*workerConfig, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	c := &workerConfig{}
	// NFD's own defaults, of which the configuration replaces some.
	c.Sources.PCI.DeviceClassWhitelist = []string{"03", "0b40", "12"}
	c.Sources.PCI.DeviceLabelFields = []string{"class", "vendor"}
	return c, yaml.Unmarshal(text, c)
}

// devices reads class_vendor_device, separated by commas.
func devices(text string) []map[string]string {
	var all []map[string]string
	for one := range strings.SplitSeq(text, ",") {
		if parts := strings.Split(strings.TrimSpace(one), "_"); len(parts) == 3 {
			all = append(all, map[string]string{"class": parts[0], "vendor": parts[1], "device": parts[2]})
		}
	}
	return all
}

// pciLabels are those of the PCI source and of the custom rules.
func (c *workerConfig) pciLabels(all []map[string]string) (map[string]any, error) {
	labels := map[string]any{}
	for _, d := range all {
		if !slices.ContainsFunc(c.Sources.PCI.DeviceClassWhitelist, func(begin string) bool { return strings.HasPrefix(d["class"], begin) }) {
			continue
		}
		fields := make([]string, 0, len(c.Sources.PCI.DeviceLabelFields))
		for _, field := range c.Sources.PCI.DeviceLabelFields {
			fields = append(fields, d[field])
		}
		labels[featurePrefix+"pci-"+strings.Join(fields, "_")+".present"] = "true"
	}
	for _, rule := range c.Sources.Custom {
		if err := rule.apply(all, labels); err != nil {
			return nil, fmt.Errorf("rule %s: %w", rule.Name, err)
		}
	}
	return labels, nil
}

// apply adds what a rule's template says of the devices that match it.
func (r customRule) apply(all []map[string]string, labels map[string]any) error {
	matched := []map[string]string{}
	for _, d := range all {
		fits := true
		for _, term := range r.MatchFeatures {
			for field, e := range term.MatchExpressions {
				if term.Feature != "pci.device" || e.Op != "In" {
					return fmt.Errorf("it uses %s %s, which the stand-in does not know", term.Feature, e.Op)
				}
				fits = fits && slices.Contains(e.Value, d[field])
			}
		}
		if fits {
			matched = append(matched, d)
		}
	}
	if len(matched) == 0 {
		return nil
	}
	t, err := template.New(r.Name).Parse(r.LabelsTemplate)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	if err := t.Execute(&out, map[string]any{"pci": map[string]any{"device": matched}}); err != nil {
		return err
	}
	for line := range strings.Lines(out.String()) {
		key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
		if !ok {
			continue
		}
		if !strings.Contains(key, "/") {
			key = featurePrefix + key
		}
		labels[key] = value
	}
	return nil
}

// systemLabels are those of the kernel and the distribution.
func systemLabels() map[string]any {
	labels := map[string]any{featurePrefix + "cpu-cpuid.AVX2": "true"}
	if version, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		full := strings.TrimSpace(string(version))
		labels[featurePrefix+"kernel-version.full"] = full
		parts := strings.SplitN(full, ".", 3)
		for i, name := range []string{"major", "minor"} {
			if i < len(parts) {
				labels[featurePrefix+"kernel-version."+name] = parts[i]
			}
		}
	}
	if file, err := os.Open("/host-etc/os-release"); err == nil {
		defer func() { _ = file.Close() }()
		lines := bufio.NewScanner(file)
		for lines.Scan() {
			if key, value, ok := strings.Cut(lines.Text(), "="); ok && (key == "ID" || key == "VERSION_ID") {
				labels[featurePrefix+"system-os_release."+key] = strings.Trim(value, `"`)
			}
		}
	}
	return labels
}

func nfdWorker(ctx context.Context, k *kube, _ []string) error {
	config, err := readWorkerConfig("/etc/kubernetes/node-feature-discovery/nfd-worker.conf")
	if err != nil {
		return err
	}
	node, err := k.get(ctx, "/api/v1/nodes/"+k.node)
	if err != nil {
		return err
	}
	labels, err := config.pciLabels(devices(node.annotation(annotationPCI)))
	if err != nil {
		return err
	}
	if slices.Contains(config.Core.LabelSources, "kernel") {
		maps.Copy(labels, systemLabels())
	}
	feature := object{
		"apiVersion": "nfd.k8s-sigs.io/v1alpha1", "kind": "NodeFeature",
		"metadata": map[string]any{"name": k.node, "labels": map[string]any{"nfd.node.kubernetes.io/node-name": k.node}},
		"spec":     map[string]any{"labels": labels},
	}
	path := features + "/namespaces/" + k.namespace + "/nodefeatures"
	have, err := k.get(ctx, path+"/"+k.node)
	if is(err, http.StatusNotFound) {
		return k.create(ctx, path, feature)
	}
	if err != nil {
		return err
	}
	if now, _ := have.at("spec", "labels").(map[string]any); maps.Equal(now, labels) {
		return nil
	}
	have["spec"] = feature["spec"]
	_, err = k.do(ctx, http.MethodPut, path+"/"+k.node, "application/json", have)
	return err
}

// owned is the annotation in which the master remembers which labels it wrote.
const owned = "nfd.node.kubernetes.io/feature-labels"

func nfdMaster(ctx context.Context, k *kube, _ []string) error {
	if err := k.lease(ctx, "nfd-master.nfd.kubernetes.io"); err != nil {
		return err
	}
	all, err := k.list(ctx, features+"/nodefeatures")
	if err != nil {
		return err
	}
	for _, feature := range all {
		node, err := k.get(ctx, "/api/v1/nodes/"+feature.name())
		if is(err, http.StatusNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		want, _ := feature.at("spec", "labels").(map[string]any)
		labels := maps.Clone(want)
		names := make([]string, 0, len(want))
		for _, key := range slices.Sorted(maps.Keys(want)) {
			names = append(names, strings.TrimPrefix(key, featurePrefix))
		}
		for before := range strings.SplitSeq(node.annotation(owned), ",") {
			if _, stays := want[featurePrefix+before]; before != "" && !stays {
				labels[featurePrefix+before] = nil
			}
		}
		if err := k.mark(ctx, node, "labels", labels); err != nil {
			return err
		}
		if err := k.mark(ctx, node, "annotations", map[string]any{owned: strings.Join(names, ",")}); err != nil {
			return err
		}
	}
	return nil
}

func nfdPrune(ctx context.Context, k *kube, _ []string) error {
	nodes, err := k.list(ctx, "/api/v1/nodes")
	if err != nil {
		return err
	}
	for _, node := range nodes {
		gone := map[string]any{}
		for before := range strings.SplitSeq(node.annotation(owned), ",") {
			if before != "" {
				gone[featurePrefix+before] = nil
			}
		}
		if err := k.mark(ctx, node, "labels", gone); err != nil {
			return err
		}
		if err := k.mark(ctx, node, "annotations", map[string]any{owned: nil}); err != nil {
			return err
		}
	}
	return nil
}

func nfdCollect(ctx context.Context, k *kube, _ []string) error {
	all, err := k.list(ctx, features+"/nodefeatures")
	if err != nil {
		return err
	}
	nodes, err := k.list(ctx, "/api/v1/nodes")
	if err != nil {
		return err
	}
	for _, feature := range all {
		if slices.ContainsFunc(nodes, func(n object) bool { return n.name() == feature.name() }) {
			continue
		}
		if err := k.remove(ctx, features+"/namespaces/"+feature.text("metadata", "namespace")+"/nodefeatures/"+feature.name()); err != nil {
			return err
		}
	}
	return nil
}
