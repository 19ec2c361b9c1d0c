package pg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// install makes a folder that looks like the server binaries of a version.
func install(t *testing.T, root, version string) string {
	t.Helper()
	dir := filepath.Join(root, version, "bin")
	require.NoError(t, os.MkdirAll(dir, 0o755))
	for _, name := range []string{"postgres", "initdb"} {
		script := "#!/bin/sh\necho 'postgres (PostgreSQL) " + version + ".4'\n"
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755))
	}
	return dir
}

func TestFindBinaries(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	v15, v17 := install(t, root, "15"), install(t, root, "17")
	moved := install(t, filepath.Join(root, "opt"), "16") // not in a folder of its version's name
	plain := filepath.Join(root, "sixteen")
	require.NoError(t, os.Rename(moved, plain))
	data := filepath.Join(root, "data")

	got, err := findBinaries(data, []string{filepath.Join(root, "nothing"), v17, v15})
	require.NoError(t, err)
	require.Equal(t, v17, got)

	_, err = findBinaries(data, nil)
	require.EqualError(t, err, "no PostgreSQL server is installed here; install one (apt-get install postgresql), or set BUDCLUSTER_DATABASE_URL to the database to use")

	require.NoError(t, os.MkdirAll(data, 0o755))
	for made, want := range map[string]string{"15": v15, "16": plain} {
		require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte(made+"\n"), 0o600))
		got, err = findBinaries(data, []string{v17, v15, plain})
		require.NoError(t, err, made)
		require.Equal(t, want, got)
	}
	require.NoError(t, os.WriteFile(filepath.Join(data, "PG_VERSION"), []byte("13\n"), 0o600))
	_, err = findBinaries(data, []string{v17})
	require.EqualError(t, err, "the private database in "+data+" was made by PostgreSQL 13, which is not installed; install it (apt-get install postgresql-13), or remove the folder and all data in it")
}

func TestClaimRefusesWhatIsNoFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "link")
	require.NoError(t, os.Symlink("/tmp", dir))
	err := (&owner{name: "this user"}).folder(dir)
	require.ErrorContains(t, err, "is not a folder of user this user")
}

func TestTailKeepsTheEnd(t *testing.T) {
	t.Parallel()
	var end tail
	require.NoError(t, end.error())
	for range 1000 {
		_, err := end.Write([]byte("begin of the output\n"))
		require.NoError(t, err)
	}
	_, err := end.Write([]byte("the end"))
	require.NoError(t, err)
	require.True(t, strings.HasSuffix(end.error().Error(), "the end"))
	require.LessOrEqual(t, len(end.text), maxTail)
}
