package pg

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// owner is the user that the private server runs as. Postgres refuses to run
// as root, so root lends it the user that its package made.
type owner struct {
	name       string
	credential *syscall.Credential // nil: as ourselves
}

func findOwner() (*owner, error) {
	if os.Geteuid() != 0 {
		return &owner{name: "this user"}, nil
	}
	for _, name := range []string{"postgres", "nobody"} {
		u, err := user.Lookup(name)
		if err != nil {
			continue
		}
		uid, errUID := strconv.ParseUint(u.Uid, 10, 32)
		gid, errGID := strconv.ParseUint(u.Gid, 10, 32)
		if errUID == nil && errGID == nil {
			return &owner{name: name, credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid), NoSetGroups: false}}, nil
		}
	}
	return nil, errors.New("a private Postgres does not run as root, and there is neither a user postgres nor nobody; run as an ordinary user, or set BUDCLUSTER_DATABASE_URL")
}

// folder makes dir for the owner alone, and checks that the owner gets there.
func (o *owner) folder(dir string) error {
	if err := os.MkdirAll(filepath.Dir(dir), 0o755); err != nil { //nolint:gosec // parents must be traversable
		return fmt.Errorf("make folder of the private Postgres: %w", err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("make folder of the private Postgres: %w", err)
	}
	if err := o.claim(dir); err != nil {
		return err
	}
	if o.credential == nil {
		return nil
	}
	for parent := filepath.Dir(dir); ; parent = filepath.Dir(parent) {
		info, err := os.Stat(parent)
		if err != nil {
			return fmt.Errorf("look at folder %s: %w", parent, err)
		}
		if !o.mayTraverse(info) {
			return fmt.Errorf("stateDir: user %s, as whom the private Postgres runs, cannot get to %s because of the permissions of %s; use a folder such as /var/lib/budcluster, or run as an ordinary user",
				o.name, dir, parent)
		}
		if parent == filepath.Dir(parent) {
			return nil
		}
	}
}

// claim makes dir the owner's. One that a stranger made is refused: the socket
// in it would be theirs.
func (o *owner) claim(dir string) error {
	info, err := os.Lstat(dir)
	if err != nil {
		return fmt.Errorf("look at folder %s: %w", dir, err)
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	ours := ok && (int(stat.Uid) == os.Geteuid() || (o.credential != nil && stat.Uid == o.credential.Uid))
	if !info.IsDir() || !ours {
		return fmt.Errorf("stateDir: %s is not a folder of user %s; remove it, or use another folder", dir, o.name)
	}
	if o.credential != nil {
		if err := os.Chown(dir, int(o.credential.Uid), int(o.credential.Gid)); err != nil {
			return fmt.Errorf("give folder %s to user %s: %w", dir, o.name, err)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil { //nolint:gosec // a folder
		return fmt.Errorf("close folder %s to others: %w", dir, err)
	}
	return nil
}

func (o *owner) mayTraverse(info os.FileInfo) bool {
	stat, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return true
	}
	switch {
	case stat.Uid == o.credential.Uid:
		return info.Mode()&0o100 != 0
	case stat.Gid == o.credential.Gid:
		return info.Mode()&0o010 != 0
	default:
		return info.Mode()&0o001 != 0
	}
}

// findBinaries looks for the folder that holds postgres and initdb: that of
// the version that made data, if there is one, else the first of dirs.
func findBinaries(data string, dirs []string) (string, error) {
	made, err := os.ReadFile(filepath.Join(data, "PG_VERSION"))
	if err == nil {
		version := strings.TrimSpace(string(made))
		for _, dir := range dirs {
			if has(dir, "postgres") && (strings.Contains(dir, "/"+version+"/") || isVersion(dir, version)) {
				return dir, nil
			}
		}
		return "", fmt.Errorf("the private database in %s was made by PostgreSQL %s, which is not installed; install it (apt-get install postgresql-%s), or remove the folder and all data in it",
			data, version, version)
	}
	for _, dir := range dirs {
		if has(dir, "postgres") && has(dir, "initdb") {
			return dir, nil
		}
	}
	return "", errors.New("no PostgreSQL server is installed here; install one (apt-get install postgresql), or set BUDCLUSTER_DATABASE_URL to the database to use")
}

// candidates are the folders of PATH, then those of Debian's packages, newest
// version first.
func candidates() []string {
	var dirs []string
	if path, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(path))
	}
	packaged, _ := filepath.Glob("/usr/lib/postgresql/*/bin") // the pattern is well-formed
	slices.SortFunc(packaged, func(a, b string) int { return version(b) - version(a) })
	return append(dirs, packaged...)
}

func version(dir string) int {
	n, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
	if err != nil {
		return 0
	}
	return n
}

func isVersion(dir, version string) bool {
	out, err := exec.Command(filepath.Join(dir, "postgres"), "--version").Output() //nolint:gosec,noctx // prints and ends
	if err != nil {
		return false
	}
	fields := strings.Fields(string(out)) // postgres (PostgreSQL) 15.18 (Debian …)
	return len(fields) > 2 && strings.HasPrefix(fields[2], version+".")
}

func has(dir, name string) bool {
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}

// tail keeps the end of what the server printed, for the error when it ends.
type tail struct {
	mu   sync.Mutex // guards text
	text []byte
}

const maxTail = 4 << 10

// Write keeps the last maxTail bytes.
func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.text = append(t.text, p...)
	if len(t.text) > maxTail {
		t.text = slices.Clone(t.text[len(t.text)-maxTail:])
	}
	return len(p), nil
}

func (t *tail) error() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.text) == 0 {
		return nil
	}
	return errors.New("it printed: " + strings.TrimSpace(string(t.text)))
}
