package api

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"regexp"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/internal/secret"
)

// agentNamespace is where the agent's chart is installed.
const agentNamespace = "budcluster-system"

// The forms of what goes into the install command. Nothing that passes means
// anything to a shell or to Helm's --set.
var (
	hostForm  = regexp.MustCompile(`^([A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])$`)
	portForm  = regexp.MustCompile(`^[0-9]{1,5}$`)
	pathForm  = regexp.MustCompile(`^(/[A-Za-z0-9._~-]+)*$`)
	tokenForm = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
)

// Address is where a request came to: what the hub is called by those who can
// reach it, when its configuration does not say.
type Address struct {
	host, scheme string
}

// Resolve is huma.Resolver's.
func (a *Address) Resolve(hc huma.Context) []error {
	a.host, a.scheme = hc.Host(), "http"
	if hc.TLS() != nil {
		a.scheme = "https"
	}
	return nil
}

// places are where clusters find the hub.
type places struct {
	public *url.URL
	host   string // of the tunnel; may be empty
	port   string
}

func newPlaces(publicURL, tunnelAddress string) (places, error) {
	var p places
	if publicURL != "" {
		u, err := hubapi.ParseURL(publicURL)
		if err != nil || !safeHostPort(u.Host) || !pathForm.MatchString(u.EscapedPath()) {
			return p, fmt.Errorf("api.url %q cannot be the hub's address; give it as https://host:port", publicURL)
		}
		p.public = u
	}
	host, port, err := net.SplitHostPort(tunnelAddress)
	if err != nil || !portForm.MatchString(port) || host != "" && !hostForm.MatchString(bracket(host)) {
		return p, fmt.Errorf("tunnel.address %q cannot be where agents dial; give it as host:port", tunnelAddress)
	}
	p.host, p.port = host, port
	return p, nil
}

func safeHostPort(s string) bool {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return hostForm.MatchString(s)
	}
	return hostForm.MatchString(bracket(host)) && portForm.MatchString(port)
}

// bracket is how an address of IPv6 stands before a port.
func bracket(host string) string {
	if strings.Contains(host, ":") {
		return "[" + host + "]"
	}
	return host
}

// installCommand is the one line that joins a cluster.
func (s *Server) installCommand(token secret.String, at Address) (string, error) {
	p, err := newPlaces(s.cfg.PublicURL, s.cfg.TunnelAddress)
	if err != nil {
		return "", err
	}
	if p.public == nil {
		if !safeHostPort(at.host) {
			return "", fmt.Errorf("the request's host %q is no address, and api.url is not set", at.host)
		}
		p.public = &url.URL{Scheme: at.scheme, Host: at.host}
	}
	if p.host == "" {
		p.host = p.public.Hostname()
	}
	if !tokenForm.MatchString(token.Reveal()) {
		return "", errors.New("join token holds what a shell would read")
	}
	return fmt.Sprintf("helm install budcluster-agent %s/charts/%s --namespace %s --create-namespace --set 'hub.addresses={%s:%s}' --set joinToken=%s",
		p.public, s.chart.file, agentNamespace, bracket(p.host), p.port, token.Reveal()), nil
}
