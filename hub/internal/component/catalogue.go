package component

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
)

// Catalogue is all that can be installed. It does not change.
type Catalogue struct {
	byName map[string]*Component
	// order has every component after those that it requires or comes after.
	order []string
}

// Load reads the entries that this program carries, and lays over them those of
// a folder: a file of the same name changes an entry, another adds one. The
// folder may be nil.
func Load(folder fs.FS) (*Catalogue, error) {
	docs, err := readFolder(embedded())
	if err != nil {
		return nil, fmt.Errorf("read the catalogue of this program: %w", err)
	}
	if folder != nil {
		over, err := readFolder(folder)
		if err != nil {
			return nil, fmt.Errorf("read the folder of components: %w", err)
		}
		for name, doc := range over {
			docs[name] = merge(map[string]any(docs[name]), map[string]any(doc)).(map[string]any) //nolint:forcetypeassert // two objects give one
		}
	}
	return build(docs)
}

// readFolder reads every .yaml file of a folder by the name of its entry.
func readFolder(folder fs.FS) (map[string]document, error) {
	names, err := fs.Glob(folder, "*.yaml")
	if err != nil {
		return nil, err
	}
	docs := make(map[string]document, len(names))
	var errs []error
	for _, file := range names {
		doc, err := readFile(folder, file)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", file, err))
			continue
		}
		docs[strings.TrimSuffix(file, ".yaml")] = doc
	}
	return docs, errors.Join(errs...)
}

func readFile(folder fs.FS, file string) (document, error) {
	data, err := fs.ReadFile(folder, file)
	if err != nil {
		return nil, err
	}
	doc, err := decodeDocument(data)
	if err != nil {
		return nil, err
	}
	want := strings.TrimSuffix(path.Base(file), ".yaml")
	if name, _ := doc["name"].(string); name != want {
		return nil, fmt.Errorf("name: it is %q; use %q, as the file is called", clip(name), want)
	}
	return doc, nil
}

// build makes entries of documents, checks them alone and together, and orders
// them.
func build(docs map[string]document) (*Catalogue, error) {
	c := &Catalogue{byName: make(map[string]*Component, len(docs))}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(docs)) {
		entry, err := docs[name].component()
		if err == nil {
			err = entry.validate()
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("component %s: %w", name, err))
			continue
		}
		c.byName[name] = entry
	}
	if len(errs) == 0 {
		errs = append(errs, c.link())
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, nil
}

// link checks what entries say of each other, and finds their order.
func (c *Catalogue) link() error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(c.byName)) {
		if err := c.checkNames(c.byName[name]); err != nil {
			errs = append(errs, fmt.Errorf("component %s: %w", name, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return c.sort()
}

func (c *Catalogue) checkNames(entry *Component) error {
	var errs []error
	check := func(field, name string) {
		if _, ok := c.byName[name]; !ok {
			errs = append(errs, fmt.Errorf("%s: there is no component %q; the catalogue has %s", field, clip(name), strings.Join(c.names(), ", ")))
		}
	}
	for _, name := range entry.Requires {
		check("requires", name)
	}
	for _, name := range entry.After {
		check("after", name)
	}
	for i, conflict := range entry.Conflicts {
		if !c.hasPresence(conflict.With) {
			errs = append(errs, fmt.Errorf("conflicts[%d].with: there is no presence %q; write component/probe", i, clip(conflict.With)))
		}
	}
	components, presences := entry.mentioned()
	for _, name := range components {
		check("variants, when or blocked", name)
	}
	for _, with := range presences {
		if !c.hasPresence(with) {
			errs = append(errs, fmt.Errorf("variants, when or blocked: there is no presence %q; write component/probe", clip(with)))
		}
	}
	return errors.Join(errs...)
}

func (c *Catalogue) hasPresence(with string) bool {
	name, probe, _ := strings.Cut(with, "/")
	entry := c.byName[name]
	return entry != nil && slices.ContainsFunc(entry.Presence, func(p Presence) bool { return p.Name == probe })
}

// mentioned are the components and presences that an entry's conditions ask
// for.
func (c *Component) mentioned() (components, presences []string) {
	var walk func(Condition)
	walk = func(cond Condition) {
		for _, name := range []string{cond.There, cond.Adopted} {
			if name != "" {
				components = append(components, name)
			}
		}
		if cond.Found != "" {
			presences = append(presences, cond.Found)
		}
		for _, one := range slices.Concat(cond.AnyOf, cond.AllOf) {
			walk(one)
		}
		if cond.Not != nil {
			walk(*cond.Not)
		}
	}
	if c.When != nil {
		walk(*c.When)
	}
	for _, v := range c.Variants {
		walk(v.When)
	}
	for _, b := range c.Blocked {
		walk(b.When)
	}
	return components, presences
}

// sort orders the components so that each follows those that it needs, and
// otherwise by rank: required ones first, then by name.
func (c *Catalogue) sort() error {
	waiting := slices.SortedFunc(maps.Values(c.byName), func(a, b *Component) int {
		if a.Required != b.Required {
			if a.Required {
				return -1
			}
			return 1
		}
		return cmp.Compare(a.Name, b.Name)
	})
	placed := map[string]bool{}
	for len(waiting) > 0 {
		at := slices.IndexFunc(waiting, func(entry *Component) bool {
			return !slices.ContainsFunc(slices.Concat(entry.Requires, entry.After), func(n string) bool { return !placed[n] })
		})
		if at < 0 {
			names := make([]string, 0, len(waiting))
			for _, entry := range waiting {
				names = append(names, entry.Name)
			}
			return fmt.Errorf("components %s wait for each other; take one out of requires or after", strings.Join(names, ", "))
		}
		placed[waiting[at].Name] = true
		c.order = append(c.order, waiting[at].Name)
		waiting = slices.Delete(waiting, at, at+1)
	}
	return nil
}

func (c *Catalogue) names() []string { return slices.Sorted(maps.Keys(c.byName)) }

// Components returns all entries in the order in which they are installed.
// They are not to be changed.
func (c *Catalogue) Components() []*Component {
	out := make([]*Component, 0, len(c.order))
	for _, name := range c.order {
		out = append(out, c.byName[name])
	}
	return out
}

// Component finds an entry by name.
func (c *Catalogue) Component(name string) (*Component, error) {
	if entry, ok := c.byName[name]; ok {
		return entry, nil
	}
	return nil, &NotFoundError{Name: clip(name), Known: c.names()}
}

// ErrNotFound says that the catalogue has no such component.
var ErrNotFound = errors.New("no such component")

// NotFoundError says which component there is not. It is ErrNotFound.
type NotFoundError struct {
	Name  string
	Known []string
}

// Error names the component and those that there are.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no component %q; the catalogue has %s", e.Name, strings.Join(e.Known, ", "))
}

// Is makes it ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }
