package release_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

func BenchmarkDesired100(b *testing.B) {
	s := setup(b)
	for i := range 100 {
		req := s.request(`{"image": {"tag": "1.0"}}`)
		req.Name = fmt.Sprintf("web-%03d", i)
		s.apply(b, req)
	}
	for b.Loop() {
		desired, err := s.Desired(b.Context(), s.clusterID)
		require.NoError(b, err)
		require.Len(b, desired, 100)
	}
}

func BenchmarkApplyUnchanged(b *testing.B) {
	s := setup(b)
	req := s.request(`{"image": {"tag": "1.0"}}`)
	s.apply(b, req)
	for b.Loop() {
		s.apply(b, req)
	}
}
