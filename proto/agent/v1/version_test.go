package agentv1_test

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/budecosystem/budcluster/internal/testutil"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

const versions = "testdata/versions.golden"

// People forget to raise Version when they change a message. The file has one
// line for each Version with the digest of its messages; -update adds a line
// for a new Version and never changes one that is there. Only the line of a
// Version that was never released may be corrected, by hand.
func TestVersionChangesWithTheMessages(t *testing.T) {
	t.Parallel()
	known, err := os.ReadFile(versions)
	if !os.IsNotExist(err) {
		require.NoError(t, err)
	}
	digest := messages(t)
	var last int
	for line := range strings.Lines(string(known)) {
		var version int
		var want string
		_, err := fmt.Sscanf(line, "%d %s\n", &version, &want)
		require.NoError(t, err, "line %q", line)
		require.Equal(t, last+1, version, "versions go up by one")
		last = version
		if version == agentv1.Version {
			require.Equal(t, want, digest, "the messages changed and Version did not: raise it, write its history in version.go, and run this test with -update")
		}
	}
	if testutil.Updating() && last == agentv1.Version-1 {
		known = fmt.Appendf(known, "%d %s\n", agentv1.Version, digest)
		require.NoError(t, os.WriteFile(versions, known, 0o600))
		return
	}
	require.Equal(t, agentv1.Version, last, "run this test with -update to record the new Version")
}

// messages names the content of all messages and services.
func messages(t *testing.T) string {
	t.Helper()
	sum := sha256.New()
	for _, file := range []protoreflect.FileDescriptor{
		agentv1.File_agent_v1_enroll_proto, agentv1.File_agent_v1_inventory_proto, agentv1.File_agent_v1_link_proto, agentv1.File_agent_v1_release_proto,
	} {
		d := protodesc.ToFileDescriptorProto(file)
		d.SourceCodeInfo = nil // comments may change
		d.Options = &descriptorpb.FileOptions{}
		text, err := proto.MarshalOptions{Deterministic: true}.Marshal(d)
		require.NoError(t, err)
		sum.Write(text)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}
