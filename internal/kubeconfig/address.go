package kubeconfig

import (
	"fmt"
	"net/netip"
)

// Addresses says which addresses an uploaded file may make the hub dial.
//
// Private networks are allowed: that is where clusters are. What only means
// something on the hub's own machine or its own link is not, so that nobody
// uses the hub to reach what listens for it alone. Deny takes more away: the
// networks in which a site keeps what no registration has to touch.
type Addresses struct {
	// AllowLoopback is for trying things out on one machine.
	AllowLoopback bool `json:"allowLoopback,omitempty"`
	// Deny is refused besides.
	Deny []netip.Prefix `json:"deny,omitempty"`
}

// Check refuses an address with a sentence that reads on from the field.
func (a Addresses) Check(ip netip.Addr) error {
	ip = plain(ip)
	switch {
	case ip.IsLoopback() || ip.IsUnspecified():
		if a.AllowLoopback {
			return nil
		}
		return fmt.Errorf("leads to %s, which is the hub's own machine to the hub; give the address under which the hub reaches the API server", ip)
	case ip.IsLinkLocalUnicast():
		return fmt.Errorf("leads to %s, an address that is only good on one network link; give the address under which the hub reaches the API server", ip)
	case ip.IsMulticast() || !ip.IsValid() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("leads to %s, which is not the address of one machine", ip)
	}
	for _, p := range a.Deny {
		if p.Contains(ip) {
			return fmt.Errorf("leads to %s, and this hub does not dial %s (bootstrap.denyNetworks)", ip, p)
		}
	}
	return nil
}

// nat64 is the prefix under which translators show addresses of IPv4.
var nat64 = netip.MustParsePrefix("64:ff9b::/96") //nolint:gochecknoglobals // a constant of RFC 6052

// plain undoes every way to write an address of IPv4 as one of IPv6.
func plain(ip netip.Addr) netip.Addr {
	ip = ip.WithZone("").Unmap()
	if nat64.Contains(ip) {
		b := ip.As16()
		return netip.AddrFrom4([4]byte(b[12:]))
	}
	return ip
}
