package release

import (
	"bytes"
	"cmp"
	"maps"
	"reflect"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

const scaleSubresource = "scale"

// difference is one field that two objects do not have in common.
type difference struct {
	path fieldpath.Path
	text string
}

// diffObjects compares what is there with what it would be if the manifest
// were applied. What the API server keeps about an object is left out.
func diffObjects(live, applied *unstructured.Unstructured) []difference {
	d := differ{}
	for _, key := range bothKeys(live.Object, applied.Object) {
		switch key {
		case "apiVersion", "kind", "status":
		case "metadata":
			d.values([]string{key}, fieldpath.MakePathOrDie(key), comparableMeta(live), comparableMeta(applied))
		default:
			d.values([]string{key}, fieldpath.MakePathOrDie(key), live.Object[key], applied.Object[key])
		}
	}
	return d.found
}

func comparableMeta(u *unstructured.Unstructured) any {
	all, _ := u.Object["metadata"].(map[string]any)
	out := map[string]any{}
	for key, value := range all {
		switch key {
		case "managedFields", "resourceVersion", "generation", "uid", "creationTimestamp", "selfLink":
		default:
			out[key] = value
		}
	}
	return out
}

type differ struct{ found []difference }

func (d *differ) values(text []string, path fieldpath.Path, a, b any) {
	if reflect.DeepEqual(a, b) || empty(a) && empty(b) {
		return
	}
	if am, bm, ok := both[map[string]any](a, b); ok {
		for _, key := range bothKeys(am, bm) {
			name := key
			d.values(append(slices.Clip(text), key), append(path.Copy(), fieldpath.PathElement{FieldName: &name}), am[key], bm[key])
		}
		return
	}
	if al, bl, ok := both[[]any](a, b); ok && d.named(text, path, al, bl) {
		return
	}
	d.found = append(d.found, difference{path: path, text: join(text)})
}

// named compares lists whose items have names, as containers and ports do.
func (d *differ) named(text []string, path fieldpath.Path, a, b []any) bool {
	am, aok := byName(a)
	bm, bok := byName(b)
	if !aok || !bok {
		return false
	}
	for _, name := range bothKeys(am, bm) {
		key := fieldpath.KeyByFields("name", name)
		item := append(slices.Clip(text), "["+name+"]")
		d.values(item, append(path.Copy(), fieldpath.PathElement{Key: key}), am[name], bm[name])
	}
	return true
}

func byName(list []any) (map[string]any, bool) {
	out := map[string]any{}
	for _, item := range list {
		m, ok := item.(map[string]any)
		if !ok {
			return nil, false
		}
		name, ok := m["name"].(string)
		if _, twice := out[name]; !ok || twice {
			return nil, false
		}
		out[name] = m
	}
	return out, true
}

func both[T any](a, b any) (T, T, bool) {
	x, okA := a.(T)
	y, okB := b.(T)
	return x, y, okA && okB
}

// empty: absent, null, {} and [] mean the same to the API server.
func empty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case map[string]any:
		return len(v) == 0
	case []any:
		return len(v) == 0
	default:
		return false
	}
}

func bothKeys(a, b map[string]any) []string {
	keys := map[string]bool{}
	for k := range a {
		keys[k] = true
	}
	for k := range b {
		keys[k] = true
	}
	return slices.Sorted(maps.Keys(keys))
}

// join writes a path the way people do: spec.containers[web].image.
func join(parts []string) string {
	var b strings.Builder
	for _, p := range parts {
		switch {
		case strings.HasPrefix(p, "["):
			b.WriteString(p)
		case strings.Contains(p, "."):
			b.WriteString("[" + p + "]")
		default:
			if b.Len() > 0 {
				b.WriteByte('.')
			}
			b.WriteString(p)
		}
	}
	return b.String()
}

// managerOf names who wrote a field last, other than Helm and we.
func managerOf(live *unstructured.Unstructured, path fieldpath.Path, ours ...string) string {
	entries := slices.Clone(live.GetManagedFields())
	slices.SortStableFunc(entries, func(a, b metav1.ManagedFieldsEntry) int { return cmp.Compare(unix(b.Time), unix(a.Time)) })
	for _, e := range entries {
		if slices.Contains(ours, e.Manager) {
			continue
		}
		if set := fieldsOf(e); set != nil && touches(set, path) {
			return e.Manager
		}
	}
	return ""
}

func unix(t *metav1.Time) int64 {
	if t == nil {
		return 0
	}
	return t.UnixNano()
}

func fieldsOf(e metav1.ManagedFieldsEntry) *fieldpath.Set {
	if e.FieldsV1 == nil {
		return nil
	}
	set := &fieldpath.Set{}
	if err := set.FromJSON(bytes.NewReader(e.FieldsV1.GetRawBytes())); err != nil {
		return nil
	}
	return set
}

// touches reports whether a set has the path, or something below it.
func touches(set *fieldpath.Set, path fieldpath.Path) bool {
	if set.Has(path) {
		return true
	}
	found := false
	set.Iterate(func(p fieldpath.Path) {
		found = found || len(p) > len(path) && p[:len(path)].Equals(path)
	})
	return found
}

// withoutScaled returns a copy of obj without the fields that an autoscaler,
// or a person with kubectl scale, wrote through the scale subresource: they
// are not the chart's any more.
func withoutScaled(obj, live *unstructured.Unstructured) *unstructured.Unstructured {
	out := obj.DeepCopy()
	unstructured.RemoveNestedField(out.Object, "status")
	unstructured.RemoveNestedField(out.Object, "metadata", "creationTimestamp")
	if live == nil {
		return out
	}
	for _, e := range live.GetManagedFields() {
		if e.Subresource != scaleSubresource {
			continue
		}
		set := fieldsOf(e)
		if set == nil {
			continue
		}
		set.Iterate(func(p fieldpath.Path) {
			fields := make([]string, 0, len(p))
			for _, element := range p {
				if element.FieldName == nil {
					return
				}
				fields = append(fields, *element.FieldName)
			}
			unstructured.RemoveNestedField(out.Object, fields...)
		})
	}
	return out
}
