package pg

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budecosystem/budcluster/internal/logkey"
)

const (
	devUser     = "budcluster"
	devDatabase = "budcluster"
	// maxSocketDir leaves room for /.s.PGSQL.5432 in the 107 bytes that a
	// socket's path may have.
	maxSocketDir = 90
	devStart     = 60 * time.Second
	devStop      = 15 * time.Second
)

// DevServer is a private PostgreSQL: a child of this process, reachable by a
// socket in a folder that only its user and root can enter. It ends with this
// process, even if that is killed.
type DevServer struct {
	dir      string // holds data, and the socket unless its path is too long
	sockets  string
	settings []string
	bin      string
	owner    *owner
	log      *slog.Logger
	ready    chan struct{} // closed once connections are accepted
}

// NewDev finds the installed server binaries and prepares dir; nothing runs
// yet. settings are further settings of Postgres, each as name=value.
func NewDev(dir string, log *slog.Logger, settings ...string) (*DevServer, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return nil, fmt.Errorf("find folder of the private Postgres: %w", err)
	}
	who, err := findOwner()
	if err != nil {
		return nil, err
	}
	bin, err := findBinaries(filepath.Join(dir, "data"), candidates())
	if err != nil {
		return nil, err
	}
	d := &DevServer{dir: dir, settings: settings, bin: bin, owner: who, log: log, ready: make(chan struct{})}
	d.sockets = dir
	if len(dir) > maxSocketDir {
		d.sockets = filepath.Join(os.TempDir(), fmt.Sprintf("budcluster-pg-%x", sha256.Sum256([]byte(dir)))[:40])
	}
	return d, nil
}

// URL is where the server is to be reached.
func (d *DevServer) URL() string {
	query := url.Values{"host": {d.sockets}, "user": {devUser}}
	return "postgres:///" + devDatabase + "?" + query.Encode()
}

// Ready is closed once the server accepts connections.
func (d *DevServer) Ready() <-chan struct{} { return d.ready }

// Run makes the database on first use, runs the server until ctx ends, and
// stops it in order. It can be called once.
func (d *DevServer) Run(ctx context.Context) error {
	if err := d.prepare(ctx); err != nil {
		return err
	}
	// Pdeathsig comes when the thread that started the child ends, so this
	// thread must live as long as the child does.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var output tail
	server := d.command("postgres", d.arguments()...)
	server.Stdout, server.Stderr = &output, &output
	if err := server.Start(); err != nil {
		return fmt.Errorf("start private Postgres: %w", err)
	}
	exited := make(chan error, 1)
	go func() { exited <- server.Wait() }() // ends with the child, which this function waits for

	startCtx, cancel := context.WithTimeoutCause(ctx, devStart, fmt.Errorf("private Postgres: not ready in %s", devStart))
	defer cancel()
	started := make(chan error, 1)
	go func() { started <- d.await(startCtx) }() // ends with startCtx at the latest
	for {
		select {
		case err := <-started:
			if err != nil && ctx.Err() == nil {
				return errors.Join(err, d.stop(server, exited), output.error())
			}
			if err == nil {
				d.log.InfoContext(ctx, "private Postgres is ready", slog.String(logkey.Dir, d.dir), slog.Int(logkey.Pid, server.Process.Pid))
				close(d.ready)
			}
			started = nil
		case err := <-exited:
			return errors.Join(fmt.Errorf("private Postgres in %s ended by itself: %w", d.dir, orClean(err)), output.error())
		case <-ctx.Done():
			return d.stop(server, exited)
		}
	}
}

func orClean(err error) error {
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}

// stop ends the server: sessions are cut, the data is written out.
func (d *DevServer) stop(server *exec.Cmd, exited <-chan error) error {
	_ = server.Process.Signal(syscall.SIGINT) // it may have ended already
	timer := time.NewTimer(devStop)
	defer timer.Stop()
	select {
	case err := <-exited:
		if err != nil {
			return fmt.Errorf("stop private Postgres in %s: %w", d.dir, err)
		}
		return nil
	case <-timer.C:
		_ = server.Process.Kill()
		return errors.Join(fmt.Errorf("private Postgres in %s did not stop in %s and was killed", d.dir, devStop), <-exited)
	}
}

func (d *DevServer) arguments() []string {
	settings := append([]string{
		"listen_addresses=", "unix_socket_directories=" + d.sockets, "unix_socket_permissions=0700", "port=5432",
		"max_connections=200", "log_destination=stderr", "logging_collector=off",
	}, d.settings...)
	args := []string{"-D", filepath.Join(d.dir, "data")}
	for _, s := range settings {
		args = append(args, "-c", s)
	}
	return args
}

// prepare makes the folders and, on first use, the database cluster.
func (d *DevServer) prepare(ctx context.Context) error {
	for _, dir := range []string{d.dir, d.sockets} {
		if err := d.owner.folder(dir); err != nil {
			return err
		}
	}
	data := filepath.Join(d.dir, "data")
	if _, err := os.Stat(filepath.Join(data, "PG_VERSION")); err == nil {
		return d.awaitPredecessor(ctx)
	}
	d.log.InfoContext(ctx, "private Postgres is being made; this takes some seconds, once", slog.String(logkey.Dir, d.dir))
	// What an interrupted first start left is not a database yet.
	fresh := data + ".new"
	if err := os.RemoveAll(fresh); err != nil {
		return fmt.Errorf("clear folder of the private Postgres: %w", err)
	}
	runtime.LockOSThread() // see Run
	defer runtime.UnlockOSThread()
	initdb := d.command("initdb", "-D", fresh, "-U", devUser, "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync")
	if output, err := initdb.CombinedOutput(); err != nil {
		return fmt.Errorf("make private Postgres in %s: %w: %s", d.dir, err, bytes.TrimSpace(output))
	}
	if err := os.Rename(fresh, data); err != nil {
		return fmt.Errorf("put private Postgres in place: %w", err)
	}
	return nil
}

// awaitPredecessor waits for the server of a program that was killed: it takes
// a moment to stop after its parent, and a program that is started again at
// once would find its lock file.
func (d *DevServer) awaitPredecessor(ctx context.Context) error {
	file := filepath.Join(d.dir, "data", "postmaster.pid")
	deadline := time.NewTimer(devStop)
	defer deadline.Stop()
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("look for an earlier private Postgres: %w", err)
		}
		first, _, _ := strings.Cut(string(text), "\n")
		pid, err := strconv.Atoi(strings.TrimSpace(first))
		if err != nil || syscall.Kill(pid, 0) != nil {
			return nil // left by one that was killed itself: Postgres clears that up
		}
		inUse := fmt.Errorf("another program uses the private Postgres in %s (process %d holds %s); stop that program first", d.dir, pid, file)
		if !orphan(pid) {
			return inUse
		}
		select {
		case <-tick.C:
		case <-deadline.C:
			return inUse
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// orphan tells whether a process has lost the one that started it.
func orphan(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return true // it has just ended
	}
	// pid (name) state parent …, and the name may hold anything.
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	return len(fields) > 1 && string(fields[1]) == "1"
}

func (d *DevServer) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(d.bin, name), args...) //nolint:gosec,noctx // our own arguments; ctx must not kill it, stop does
	cmd.Dir = d.dir
	cmd.WaitDelay = 5 * time.Second
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGINT, Setpgid: true, Credential: d.owner.credential}
	return cmd
}

// await waits until the server answers, and makes the database if needed.
func (d *DevServer) await(ctx context.Context) error {
	admin := strings.Replace(d.URL(), "/"+devDatabase+"?", "/postgres?", 1)
	tick := time.NewTicker(25 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := pgx.Connect(ctx, admin)
		if err == nil {
			return errors.Join(createDatabase(ctx, conn), conn.Close(ctx))
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func createDatabase(ctx context.Context, conn *pgx.Conn) error {
	var there bool
	err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT 1 FROM pg_database WHERE datname = $1)", devDatabase).Scan(&there)
	if err == nil && !there {
		_, err = conn.Exec(ctx, "CREATE DATABASE "+pgx.Identifier{devDatabase}.Sanitize())
	}
	if err != nil {
		return fmt.Errorf("make database %s: %w", devDatabase, err)
	}
	return nil
}
