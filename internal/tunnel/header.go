package tunnel

import (
	"errors"
	"fmt"
	"io"
)

// Kind says what follows a stream's header.
type Kind uint8

// KindGRPC is the only kind so far: an HTTP/2 connection for gRPC.
const KindGRPC Kind = 1

// The lanes. Each has connections of its own, so that one is not delayed by
// what another carries.
const (
	// LaneControl carries the control stream, desired state and inventory.
	LaneControl = "control"
	// LaneBulk carries what is large: logs, proxied bytes, files.
	LaneBulk = "bulk"
	// LaneJoin is where an agent without a valid certificate asks for one.
	LaneJoin = "join"
)

const (
	headerVersion = 1
	headerFixed   = 3 // version, kind, length of the lane's name
	maxLane       = 32
)

// Header begins every stream and is sent together with its opening.
//
//	version 1 │ kind │ length n │ n bytes of the lane's name (a-z 0-9 -)
type Header struct {
	Kind Kind
	Lane string
}

var (
	errHeaderVersion = errors.New("stream header has another version; one of the two programs is too old")
	errHeaderLane    = errors.New("stream header names a lane that is not made of 1 to 32 letters, digits and dashes")
)

// AppendBinary writes the header.
func (h Header) AppendBinary(b []byte) ([]byte, error) {
	if err := checkLane(h.Lane); err != nil {
		return b, err
	}
	//nolint:gosec // checkLane bounds the length
	b = append(b, headerVersion, byte(h.Kind), byte(len(h.Lane)))
	return append(b, h.Lane...), nil
}

// ReadHeader reads exactly one header and nothing after it.
func ReadHeader(r io.Reader) (Header, error) {
	var buf [headerFixed + maxLane]byte
	if _, err := io.ReadFull(r, buf[:headerFixed]); err != nil {
		return Header{}, fmt.Errorf("read stream header: %w", err)
	}
	if buf[0] != headerVersion {
		return Header{}, errHeaderVersion
	}
	n := int(buf[2])
	if n == 0 || n > maxLane {
		return Header{}, errHeaderLane
	}
	lane := buf[headerFixed : headerFixed+n]
	if _, err := io.ReadFull(r, lane); err != nil {
		return Header{}, fmt.Errorf("read stream header: %w", err)
	}
	h := Header{Kind: Kind(buf[1]), Lane: string(lane)}
	return h, checkLane(h.Lane)
}

func checkLane(lane string) error {
	if len(lane) == 0 || len(lane) > maxLane {
		return errHeaderLane
	}
	for _, c := range []byte(lane) {
		if (c < 'a' || c > 'z') && (c < '0' || c > '9') && c != '-' {
			return errHeaderLane
		}
	}
	return nil
}
