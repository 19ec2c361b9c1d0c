package helm

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"time"

	"helm.sh/helm/v3/pkg/release"
)

// The labels that we write on Helm's records. They, and never a revision
// number, say what was applied: a rollback by hand changes the revision, an
// upgrade by hand copies the labels and is known by that (History.Copied).
const (
	// LabelReleaseID is the release's id at the hub.
	LabelReleaseID = "budcluster.io/release-id"
	// LabelOperation is unique to one operation.
	LabelOperation = "budcluster.io/operation"
	// LabelContent is a hash of chart, values and mirrors.
	LabelContent = "budcluster.io/content"
	// LabelReady marks a revision whose objects were all ready once.
	LabelReady = "budcluster.io/ready"
	// LabelAdopted marks a release that was there before us.
	LabelAdopted = "budcluster.io/adopted"
	// LabelInterrupted marks an operation that did not fail by itself: the
	// agent was stopped or died.
	LabelInterrupted = "budcluster.io/interrupted"

	labelTrue = "true"
)

// Ref names a Helm release.
type Ref struct{ Namespace, Name string }

func (r Ref) String() string { return r.Namespace + "/" + r.Name }

// Labels is what an operation writes on its record.
type Labels struct {
	ReleaseID, Operation, Content string
	Adopted                       bool
}

func (l Labels) toMap() map[string]string {
	m := map[string]string{LabelReleaseID: l.ReleaseID, LabelOperation: l.Operation}
	if l.Content != "" {
		m[LabelContent] = l.Content
	}
	if l.Adopted {
		m[LabelAdopted] = labelTrue
	}
	return m
}

// Status of a record, in Helm's words.
type Status string

// The statuses.
const (
	StatusDeployed        Status = Status(release.StatusDeployed)
	StatusSuperseded      Status = Status(release.StatusSuperseded)
	StatusFailed          Status = Status(release.StatusFailed)
	StatusUninstalled     Status = Status(release.StatusUninstalled)
	StatusUninstalling    Status = Status(release.StatusUninstalling)
	StatusPendingInstall  Status = Status(release.StatusPendingInstall)
	StatusPendingUpgrade  Status = Status(release.StatusPendingUpgrade)
	StatusPendingRollback Status = Status(release.StatusPendingRollback)
	StatusUnknown         Status = Status(release.StatusUnknown)
)

// Statuses lists every status.
func Statuses() []Status {
	return []Status{
		StatusDeployed, StatusSuperseded, StatusFailed, StatusUninstalled, StatusUninstalling,
		StatusPendingInstall, StatusPendingUpgrade, StatusPendingRollback, StatusUnknown,
	}
}

// Pending reports whether an operation began and did not end.
func (s Status) Pending() bool {
	return s == StatusPendingInstall || s == StatusPendingUpgrade || s == StatusPendingRollback
}

// Record is one revision of a release in Helm's storage.
type Record struct {
	// Revision is Helm's number: a name to point at, nothing is decided by it.
	Revision int
	Status   Status
	Labels
	Ready       bool
	Interrupted bool
	// ChangedAt is when the record was written last.
	ChangedAt time.Time
}

// History is the records of a release, latest first.
type History []Record

// Latest returns the newest record.
func (h History) Latest() (Record, bool) {
	if len(h) == 0 {
		return Record{}, false
	}
	return h[0], true
}

// Copied reports whether the newest record carries the labels of another one:
// Helm's own CLI copies labels, so somebody upgraded or rolled back by hand.
func (h History) Copied() bool {
	if len(h) == 0 || h[0].Operation == "" {
		return false
	}
	return slices.ContainsFunc(h[1:], func(r Record) bool { return r.Operation == h[0].Operation })
}

// Established reports whether a revision was ever deployed.
func (h History) Established() bool {
	return slices.ContainsFunc(h, func(r Record) bool {
		return r.Status == StatusDeployed || r.Status == StatusSuperseded
	})
}

func sortHistory(h History) History {
	slices.SortFunc(h, func(a, b Record) int { return cmp.Compare(b.Revision, a.Revision) })
	return h
}

// recordOf reads a decoded record.
func recordOf(rel *release.Release) Record {
	r := recordFrom(rel.Labels)
	r.Revision = rel.Version
	if rel.Info != nil {
		r.Status = Status(rel.Info.Status)
		if at := rel.Info.LastDeployed.Time; at.After(r.ChangedAt) {
			r.ChangedAt = at.UTC()
		}
	}
	return r
}

// recordFrom reads what the labels of a storage object say.
func recordFrom(labels map[string]string) Record {
	revision, _ := strconv.Atoi(labels["version"])
	return Record{
		Revision: revision,
		Status:   Status(cmp.Or(labels["status"], string(StatusUnknown))),
		Labels: Labels{
			ReleaseID: labels[LabelReleaseID], Operation: labels[LabelOperation],
			Content: labels[LabelContent], Adopted: labels[LabelAdopted] == labelTrue,
		},
		Ready:       labels[LabelReady] == labelTrue,
		Interrupted: labels[LabelInterrupted] == labelTrue,
		ChangedAt:   changedAt(labels),
	}
}

// The labels in which Helm's driver writes times, in seconds.
const (
	labelCreatedAt  = "createdAt"
	labelModifiedAt = "modifiedAt"
)

// changedAt reads the times that Helm's driver writes.
func changedAt(labels map[string]string) time.Time {
	var last int64
	for _, key := range []string{labelCreatedAt, labelModifiedAt} {
		if at, err := strconv.ParseInt(labels[key], 10, 64); err == nil {
			last = max(last, at)
		}
	}
	if last == 0 {
		return time.Time{}
	}
	return time.Unix(last, 0).UTC()
}

// merge returns a copy of labels with ours set, and without what only held
// for the record that they were copied from. Helm's upgrade copies the times
// too, and its driver then writes the old ones over the new: a revision of a
// second ago looked as old as the one before, and its deadline had passed.
func merge(labels, ours map[string]string) map[string]string {
	out := maps.Clone(labels)
	if out == nil {
		out = map[string]string{}
	}
	delete(out, LabelReady)
	delete(out, LabelInterrupted)
	delete(out, labelCreatedAt)
	delete(out, labelModifiedAt)
	maps.Copy(out, ours)
	return out
}
