package agentapi

import (
	"context"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxText is what is kept of one string that an agent sends: Helm's longest
// useful failure fits, a novel does not.
const maxText = 32 << 10

// maxDepth bounds the walk; our messages are six deep.
const maxDepth = 16

// clean makes every string of a message one that the database takes: PostgreSQL
// refuses U+0000 in text and in jsonb, so that one NUL in a label would keep a
// whole node out of the inventory. The protobuf decoder has refused invalid
// UTF-8 before. Strings beyond maxText are cut at a rune's border.
func clean(m proto.Message) {
	cleanMessage(m.ProtoReflect(), 0)
}

func cleanMessage(m protoreflect.Message, depth int) {
	if depth > maxDepth {
		return
	}
	m.Range(func(fd protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case fd.IsMap():
			cleanMap(fd, v.Map(), depth)
		case fd.IsList():
			cleanList(fd, v.List(), depth)
		case fd.Kind() == protoreflect.StringKind:
			if s, changed := cleanString(v.String()); changed {
				m.Set(fd, protoreflect.ValueOfString(s))
			}
		case fd.Message() != nil:
			cleanMessage(v.Message(), depth+1)
		}
		return true
	})
	if len(m.GetUnknown()) > 0 {
		m.SetUnknown(nil)
	}
}

func cleanList(fd protoreflect.FieldDescriptor, l protoreflect.List, depth int) {
	for i := range l.Len() {
		switch {
		case fd.Kind() == protoreflect.StringKind:
			if s, changed := cleanString(l.Get(i).String()); changed {
				l.Set(i, protoreflect.ValueOfString(s))
			}
		case fd.Message() != nil:
			cleanMessage(l.Get(i).Message(), depth+1)
		}
	}
}

func cleanMap(fd protoreflect.FieldDescriptor, m protoreflect.Map, depth int) {
	type entry struct {
		old protoreflect.MapKey
		key protoreflect.MapKey
		val protoreflect.Value
	}
	var moved []entry
	m.Range(func(k protoreflect.MapKey, v protoreflect.Value) bool {
		key, val, changed := k, v, false
		if fd.MapKey().Kind() == protoreflect.StringKind {
			if s, c := cleanString(k.String()); c {
				key, changed = protoreflect.ValueOfString(s).MapKey(), true
			}
		}
		switch {
		case fd.MapValue().Kind() == protoreflect.StringKind:
			if s, c := cleanString(v.String()); c {
				val, changed = protoreflect.ValueOfString(s), true
			}
		case fd.MapValue().Message() != nil:
			cleanMessage(v.Message(), depth+1)
		}
		if changed {
			moved = append(moved, entry{old: k, key: key, val: val})
		}
		return true
	})
	for _, e := range moved {
		m.Clear(e.old)
		m.Set(e.key, e.val)
	}
}

func cleanString(s string) (string, bool) {
	dirty := strings.IndexByte(s, 0) >= 0
	if dirty {
		s = strings.ReplaceAll(s, "\x00", "\uFFFD")
	}
	if len(s) <= maxText {
		return s, dirty
	}
	cut := maxText
	for cut > 0 && !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + "…", true
}

// cleanUnary and cleanStream put clean before every handler, so that no
// handler can forget it.
func cleanUnary(ctx context.Context, req any, _ *grpc.UnaryServerInfo, next grpc.UnaryHandler) (any, error) {
	if m, ok := req.(proto.Message); ok {
		clean(m)
	}
	return next(ctx, req)
}

func cleanStream(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	return next(srv, cleanedStream{ss})
}

type cleanedStream struct{ grpc.ServerStream }

// RecvMsg is grpc.ServerStream's, with clean after it.
func (s cleanedStream) RecvMsg(m any) error {
	if err := s.ServerStream.RecvMsg(m); err != nil {
		return err //nolint:wrapcheck // io.EOF must stay io.EOF
	}
	if p, ok := m.(proto.Message); ok {
		clean(p)
	}
	return nil
}
