package webhook

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strings"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

// maxURL bounds the text of an address.
const maxURL = 2048

// Guard says where webhooks may go. Whoever may make a webhook could else have
// the hub knock at doors inside of its own network, such as a cloud's metadata
// service.
type Guard struct {
	allowed  []netip.Prefix
	loopback bool
}

// NewGuard makes a Guard that allows public addresses and these networks, as
// CIDRs; and this machine itself, without TLS too, when it is for trying
// things out.
func NewGuard(networks []string, dev bool) (*Guard, error) {
	g := &Guard{loopback: dev}
	var errs []error
	for _, text := range networks {
		network, err := netip.ParsePrefix(text)
		if err != nil {
			errs = append(errs, fmt.Errorf("%q is not a network; write one as 10.20.0.0/16", invalid.Clip(text)))
			continue
		}
		g.allowed = append(g.allowed, network.Masked())
	}
	return g, errors.Join(errs...)
}

// Allow is nil for an address that may be dialed.
func (g *Guard) Allow(addr netip.Addr) error {
	addr = addr.Unmap().WithZone("")
	if g.loopback && addr.IsLoopback() {
		return nil
	}
	for _, network := range g.allowed {
		if network.Contains(addr) {
			return nil
		}
	}
	for _, inner := range inside() {
		if inner.Contains(addr) {
			return fmt.Errorf("%s is an address of %s, where webhooks may not go; a network of one's own is allowed by webhooks.allowedNetworks", addr, inner)
		}
	}
	if !addr.IsGlobalUnicast() {
		return fmt.Errorf("%s is not the address of one machine; webhooks may not go there", addr)
	}
	return nil
}

// inside are the networks that are not the Internet (RFC 6890 and its
// successors), and those through which such are reached from IPv6.
func inside() []netip.Prefix {
	var networks []netip.Prefix
	for _, text := range []string{
		"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24",
		"192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
		"::/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32", "2002::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
	} {
		networks = append(networks, netip.MustParsePrefix(text))
	}
	return networks
}

// Check refuses an address that can never be used. Its name is not resolved
// here: what counts is where it leads when it is dialed.
func (g *Guard) Check(raw string) error {
	refuse := func(format string, args ...any) error { return invalid.New("url", format, args...) }
	if len(raw) > maxURL {
		return refuse("it has %d bytes; at most %d are taken", len(raw), maxURL)
	}
	u, err := url.Parse(raw)
	if err != nil || u.Hostname() == "" || u.Opaque != "" {
		return refuse("it is not of the form https://host/path; correct it")
	}
	host := strings.TrimSuffix(strings.ToLower(u.Hostname()), ".")
	addr, errAddr := netip.ParseAddr(host)
	local := host == "localhost" || strings.HasSuffix(host, ".localhost") || errAddr == nil && addr.Unmap().IsLoopback()
	plain := u.Scheme == "http" && local && g.loopback // for trying things out
	switch {
	case u.Scheme != "https" && !plain:
		return refuse("its scheme is %q; only https is sent to", invalid.Clip(u.Scheme))
	case u.User != nil:
		return refuse("it holds a user name or password; leave them out: the signature says who sends")
	case u.Fragment != "":
		return refuse("it has a fragment, which is never sent; leave it out")
	case local && errAddr != nil && !g.loopback:
		return refuse("%q is this machine; webhooks may not go there", host)
	case errAddr == nil:
		if err := g.Allow(addr); err != nil {
			return refuse("%s", err)
		}
	}
	return nil
}
