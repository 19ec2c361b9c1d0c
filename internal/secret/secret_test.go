package secret_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/internal/secret"
)

const canary = "s3cr3t-canary"

// There is no way to print a secret but Reveal.
func TestStringNeverShows(t *testing.T) {
	t.Parallel()
	s := secret.New(canary)
	holder := struct {
		Name string
		S    secret.String
		P    *secret.String
		M    map[string]secret.String
	}{"n", s, &s, map[string]secret.String{"k": s}}
	asJSON, err := json.Marshal(holder)
	require.NoError(t, err)
	asYAML, err := yaml.Marshal(holder)
	require.NoError(t, err)
	keyed, err := json.Marshal(map[secret.String]int{s: 1})
	require.NoError(t, err)
	var logged bytes.Buffer
	log := slog.New(slog.NewJSONHandler(&logged, nil))
	log.InfoContext(t.Context(), "m", slog.Any("s", s), slog.Any("holder", holder))
	outputs := []string{string(asJSON), string(asYAML), string(keyed), logged.String(), s.String(), s.GoString(), s.LogValue().String()}
	for _, verb := range []string{"%s", "%v", "%+v", "%#v", "%q", "%x", "%X", "%d", "%10s"} {
		outputs = append(outputs, fmt.Sprintf(verb, s), fmt.Sprintf(verb, holder), fmt.Sprintf(verb, []secret.String{s}))
	}
	for _, out := range outputs {
		require.NotContains(t, out, canary)
		require.NotContains(t, out, fmt.Sprintf("%x", canary))
	}
	require.Contains(t, string(asJSON), "[redacted]")
	require.Equal(t, canary, s.Reveal())
	require.Empty(t, secret.String{}.String())
	require.True(t, secret.String{}.IsZero())
	require.True(t, s.Equal(secret.New(canary)))
	require.False(t, s.Equal(secret.New("x")))

	var back secret.String
	require.NoError(t, json.Unmarshal([]byte(`"`+canary+`"`), &back))
	require.True(t, s.Equal(back))
}

func TestKeyring(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "crypto-keys")
	ring, err := secret.OpenKeyring(dir)
	require.NoError(t, err)
	sealed, err := ring.Seal([]byte(canary), []byte("authorities/1"))
	require.NoError(t, err)
	require.NotContains(t, string(sealed), canary)
	twice, err := ring.Seal([]byte(canary), []byte("authorities/1"))
	require.NoError(t, err)
	require.NotEqual(t, sealed, twice, "each record has a data key of its own")

	info, err := os.Stat(filepath.Join(dir, "kek.json"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	info, err = os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), info.Mode().Perm())

	again, err := secret.OpenKeyring(dir)
	require.NoError(t, err)
	plain, err := again.Unseal(sealed, []byte("authorities/1"))
	require.NoError(t, err)
	require.Equal(t, canary, string(plain))

	_, err = again.Unseal(sealed, []byte("authorities/2"))
	require.Error(t, err, "a record must not be moved to another place")
	sealed[len(sealed)-1] ^= 1
	_, err = again.Unseal(sealed, []byte("authorities/1"))
	require.Error(t, err)
	_, err = again.Unseal(nil, nil)
	require.Error(t, err)

	other, err := secret.OpenKeyring(t.TempDir())
	require.NoError(t, err)
	_, err = other.Unseal(twice, []byte("authorities/1"))
	require.ErrorContains(t, err, "kek.json")
}

func TestKeyringRefusesGarbage(t *testing.T) {
	t.Parallel()
	for _, content := range []string{"", "{}", "not json"} {
		dir := t.TempDir()
		require.NoError(t, os.WriteFile(filepath.Join(dir, "kek.json"), []byte(content), 0o600))
		_, err := secret.OpenKeyring(dir)
		require.ErrorContains(t, err, "kek.json")
	}
}

// Of many who start at once all have the same key.
func TestKeyringOpenedAtOnce(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rings := make([]*secret.Keyring, 16)
	var wg sync.WaitGroup
	for i := range rings {
		wg.Go(func() {
			var err error
			rings[i], err = secret.OpenKeyring(dir)
			if err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	sealed, err := rings[0].Seal([]byte(canary), nil)
	require.NoError(t, err)
	for _, ring := range rings {
		plain, err := ring.Unseal(sealed, nil)
		require.NoError(t, err)
		require.Equal(t, canary, string(plain))
	}
	left, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, left, 1)
}

func BenchmarkSeal(b *testing.B) {
	ring, err := secret.OpenKeyring(b.TempDir())
	require.NoError(b, err)
	record := make([]byte, 4<<10)
	b.SetBytes(int64(len(record)))
	for b.Loop() {
		if _, err := ring.Seal(record, nil); err != nil {
			b.Fatal(err)
		}
	}
}
