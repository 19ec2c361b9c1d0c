package platform

import (
	"context"
	"errors"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

// The parts of the form that onboards a cluster.
const (
	partRequest = "cluster_create_request"
	partFile    = "configuration"
)

// maxForm bounds the form: the file, the request, and what is around them.
const maxForm = kubeconfig.MaxSize + maxJSON/4

// The types of clusters.
const (
	typeOnPrem = "ON_PREM"
	typeCloud  = "CLOUD"
)

// form is the parts, in memory only: a file with a credential goes to no disk.
type form struct {
	request, file []byte
	hasRequest    bool
	hasFile       bool
}

// createCluster is POST /cluster.
func (s *Server) createCluster(w http.ResponseWriter, r *http.Request) answer {
	parts, bad := readForm(w, r)
	if bad != nil {
		return *bad
	}
	defer clear(parts.file)
	var missing []fault
	for name, there := range map[string]bool{partRequest: parts.hasRequest, partFile: parts.hasFile} {
		if !there {
			missing = append(missing, fault{Type: "missing", Loc: []string{"body", name}, Msg: "The part " + name + " is missing; send it as multipart/form-data."})
		}
	}
	if len(missing) > 0 {
		return unprocessable(sorted(missing))
	}
	in, notObject := open(parts.request, "body", partRequest)
	if notObject != nil {
		return explained(http.StatusBadRequest, "Invalid JSON in cluster_create_request", notObject.Msg)
	}
	req, bad := s.readCreate(r.Context(), in)
	if bad != nil {
		return *bad
	}
	return s.registerCluster(r.Context(), req, parts.file)
}

// createRequest is what the platform asks for.
type createRequest struct {
	name, ingressURL string
	reply            notify.Reply
}

func (s *Server) readCreate(ctx context.Context, in *fields) (createRequest, *answer) {
	in.unfold()
	req := createRequest{name: in.text("name")}
	if why := checkDisplay(req.name); why != "" && len(in.faults) == 0 {
		in.refuse("value_error", "name", "%s", why)
	}
	in.flag("enable_master_node", true)
	req.ingressURL = in.maybe("ingress_url")
	in.ignore("configuration", "credentials") // the file counts; neither is read or kept
	for _, name := range []string{"credential_id", "provider_id", "region", "cloud_provider_unique_id"} {
		in.maybe(name)
	}
	kind := in.clusterType()
	req.reply = s.envelope(ctx, in)
	in.strict()
	if len(in.faults) > 0 {
		a := unprocessable(in.faults)
		return req, &a
	}
	if kind == typeCloud {
		a := failed(http.StatusNotImplemented,
			"cluster_type CLOUD: this hub does not create clusters in clouds; create cluster %q there, then onboard it as ON_PREM with its kubeconfig.", clip(req.name))
		return req, &a
	}
	return req, nil
}

// clusterType is ON_PREM unless the caller says another.
func (f *fields) clusterType() string {
	kind := typeOnPrem
	if raw := f.take("cluster_type", false, false); raw != nil && f.decode(raw, "cluster_type", &kind, "string_type", "a text") && kind != typeOnPrem && kind != typeCloud {
		f.refuse("value_error", "cluster_type", "%q is neither ON_PREM nor CLOUD; give one of them", clip(kind))
	}
	return kind
}

// registerCluster begins the registration. A cluster of this name whose last
// registration failed is registered again.
func (s *Server) registerCluster(ctx context.Context, req createRequest, file []byte) answer {
	reply, err := replyOf(req.reply, req.name)
	if err != nil {
		return s.problem(ctx, nil, err)
	}
	at := []string{"body", partRequest}
	asked := Registration{Name: registerName(req.name), IngressURL: req.ingressURL, Kubeconfig: file, Reply: reply}
	have, err := s.cfg.Clusters.Get(ctx, asked.Name)
	switch {
	case errors.Is(err, cluster.ErrNotFound):
	case err != nil:
		return s.problem(ctx, at, err)
	default:
		again, why, err := s.again(ctx, have)
		if err != nil {
			return s.problem(ctx, at, err)
		}
		if !again {
			return failed(http.StatusConflict, "A cluster named %q %s (its id is %s); choose another name, or remove that cluster first.", clip(req.name), why, have.ID)
		}
		asked.Name, asked.Existing = have.ID.String(), true
	}
	w, err := s.cfg.Register(ctx, Actor, asked)
	if errors.Is(err, cluster.ErrExists) { // two at once
		return failed(http.StatusConflict, "A cluster named %q is being registered already; wait for the end of that, or choose another name.", clip(req.name))
	}
	if err != nil {
		return s.problem(ctx, at, renamed(err))
	}
	return scheduled(w)
}

// again reports whether the platform may register a cluster that is in the
// register: it asked for that before, and it failed.
func (s *Server) again(ctx context.Context, c *cluster.Cluster) (again bool, why string, err error) {
	runs, _, err := s.cfg.Workflows.List(ctx, workflow.Filter{ClusterID: &c.ID, Kind: workflow.RegisterCluster}, page.Page{Limit: 1})
	if err != nil {
		return false, "", err
	}
	switch {
	case len(runs) == 0 || runs[0].CreatedBy != Actor:
		return false, "was registered by others", nil
	case runs[0].Status == workflow.StatusCompleted:
		return false, "is registered already", nil
	case !runs[0].Status.Terminal():
		return false, "is being registered by workflow " + runs[0].ID.String(), nil
	}
	return true, "", nil
}

// editCluster is PATCH /cluster/{cluster_id}.
func (s *Server) editCluster(w http.ResponseWriter, r *http.Request) answer {
	id, bad := pathID(r, "cluster_id")
	if bad != nil {
		return *bad
	}
	in, bad := s.json(w, r)
	if bad != nil {
		return *bad
	}
	ingressURL := in.text("ingress_url")
	if len(in.faults) > 0 {
		return unprocessable(in.faults)
	}
	if _, bad := s.find(r.Context(), id); bad != nil {
		return *bad
	}
	c, err := s.cfg.Clusters.SetIngressURL(r.Context(), Actor, id.String(), ingressURL)
	if err != nil {
		return s.problem(r.Context(), []string{"body"}, renamed(err))
	}
	return okAs("cluster.edit", "Cluster details updated successfully", map[string]any{"cluster_id": c.ID, "ingress_url": c.IngressURL})
}

// updateStatus is POST /cluster/update-node-status. The answer goes to the
// platform's main service, as that of every change.
func (s *Server) updateStatus(w http.ResponseWriter, r *http.Request) answer {
	in, bad := s.json(w, r)
	if bad != nil {
		return *bad
	}
	id := in.id("cluster_id")
	if len(in.faults) > 0 {
		return unprocessable(in.faults)
	}
	if _, bad := s.find(r.Context(), id); bad != nil {
		return *bad
	}
	reply, err := replyOf(notify.Reply{Topics: []string{notify.MainTopic}}, "")
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	run, err := s.cfg.Operations.Status(r.Context(), Actor, id.String(), reply)
	if err != nil {
		return s.problem(r.Context(), []string{"body"}, err)
	}
	return scheduled(run)
}

// deleteCluster is POST /cluster/delete. Unlike before, an unknown cluster is
// refused, and force removes one that does not answer any more. One that the
// platform calls CLOUD is taken out of the fleet as any other: the hub made no
// cloud for it, so there is none to destroy.
func (s *Server) deleteCluster(w http.ResponseWriter, r *http.Request) answer {
	in, bad := s.json(w, r)
	if bad != nil {
		return *bad
	}
	in.unfold()
	id := in.id("cluster_id")
	force := in.flag("force", false)
	in.ignore("cluster_config", "platform", "cloud_payload") // the hub knows; neither is read or kept
	in.clusterType()
	to := s.envelope(r.Context(), in)
	in.strict()
	if len(in.faults) > 0 {
		return unprocessable(in.faults)
	}
	if _, err := s.cfg.Clusters.Get(r.Context(), id.String()); err != nil { // one that left already is removed again: there is nothing to do
		return s.problem(r.Context(), nil, err)
	}
	reply, err := replyOf(to, "")
	if err != nil {
		return s.problem(r.Context(), nil, err)
	}
	run, err := s.cfg.Operations.Remove(r.Context(), Actor, operation.Remove{Cluster: id.String(), Force: force, Reply: reply})
	if err != nil {
		return s.problem(r.Context(), []string{"body"}, err)
	}
	return scheduled(run)
}

// find gives a cluster of the fleet.
func (s *Server) find(ctx context.Context, id uuid.UUID) (*cluster.Cluster, *answer) {
	c, err := s.cfg.Clusters.Get(ctx, id.String())
	if err == nil && c.RetiredAt != nil {
		err = &cluster.NotFoundError{Ref: id.String()}
	}
	if err != nil {
		a := s.problem(ctx, nil, err)
		return nil, &a
	}
	return c, nil
}

// pathID reads an id out of the path.
func pathID(r *http.Request, name string) (uuid.UUID, *answer) {
	id, err := uuid.Parse(r.PathValue(name))
	if err != nil {
		a := unprocessable([]fault{{Type: "uuid_parsing", Loc: []string{"path", name}, Msg: name + ": " + clip(r.PathValue(name)) + " is not a UUID; give the id that an answer of this service had"}})
		return uuid.Nil, &a
	}
	return id, nil
}

// readForm reads the parts as they come.
func readForm(w http.ResponseWriter, r *http.Request) (*form, *answer) {
	kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || !strings.HasPrefix(kind, "multipart/") {
		a := unprocessable([]fault{{Type: "missing", Loc: []string{"body", partRequest}, Msg: "The body is no form; send multipart/form-data with the parts cluster_create_request and configuration."}})
		return nil, &a
	}
	reader, err := r.MultipartReader()
	if err != nil {
		a := refused(http.StatusBadRequest, "The form has no boundary; send multipart/form-data as a library makes it.")
		return nil, &a
	}
	f := &form{}
	left := int64(maxForm)
	for {
		part, err := reader.NextPart()
		if errors.Is(err, io.EOF) {
			return f, nil
		}
		if err == nil {
			err = f.take(part, &left)
		}
		if err != nil {
			clear(f.file)
			a := unread(w, r, err)
			return nil, &a
		}
	}
}

func (f *form) take(part *multipart.Part, left *int64) error {
	raw, err := readAll(part, *left)
	if err != nil {
		if _, large := errors.AsType[*tooLargeError](err); large {
			return &tooLargeError{maxForm}
		}
		return err
	}
	*left -= int64(len(raw))
	switch part.FormName() {
	case partRequest:
		f.request, f.hasRequest = raw, true
	case partFile:
		f.file, f.hasFile = raw, true
	}
	return nil
}
