package hubapi

import (
	"bufio"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestReadFrame(t *testing.T) {
	t.Parallel()
	r := bufio.NewReaderSize(strings.NewReader(
		": after 7\nid: 7\nretry: 1000\n\n"+
			": alive\n\n"+
			"id: 8\r\ndata: {\"a\":\r\ndata:1}\r\nunknown: x\r\n\r\n"+
			"data: "+strings.Repeat("x", 100_000)+"\n\n"+
			"id: x\ndata: cut"), 64)
	alive := 0
	next := func() frame {
		f, err := readFrame(r, func() { alive++ })
		require.NoError(t, err)
		return f
	}
	require.Equal(t, frame{id: 7, hasID: true}, next())
	require.Equal(t, frame{}, next())
	require.Equal(t, frame{id: 8, hasID: true, data: "{\"a\":\n1}"}, next())
	require.Len(t, next().data, 100_000)
	_, err := readFrame(r, func() {})
	require.Error(t, err, "half an event is none")
	require.Equal(t, 13, alive)

	_, err = readFrame(bufio.NewReader(strings.NewReader("data: "+strings.Repeat("x", maxFrame+1)+"\n\n")), func() {})
	require.ErrorContains(t, err, "larger than 4 MiB")
}

func FuzzReadFrame(f *testing.F) {
	f.Add("id: 1\ndata: {}\n\n")
	f.Add(":\n\n")
	f.Add("data\ndata:\n\r\n\n")
	f.Fuzz(func(t *testing.T, s string) {
		r := bufio.NewReaderSize(strings.NewReader(s), 16)
		for {
			fr, err := readFrame(r, func() {})
			if err != nil {
				return
			}
			require.LessOrEqual(t, len(fr.data), len(s))
		}
	})
}
