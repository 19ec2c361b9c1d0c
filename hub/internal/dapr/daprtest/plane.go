package daprtest

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// BinDirEnv names the folder that holds daprd, placement and scheduler.
const BinDirEnv = "DAPR_BIN_DIR"

// startTimeout is long for machines that compile at the same time.
const startTimeout = 2 * time.Minute

// plane is what sidecars need and share: placement, scheduler and Redis.
type plane struct {
	network              *network
	dir, bin, components string
	placement, scheduler string // addresses
	redis                string
	alive                io.Closer // the sweeper's input, which the garbage collector would close
}

// shared is one plane for the tests of a process, which sidecars are told apart
// in by their app-ids.
var shared = sync.OnceValues(startPlane) //nolint:gochecknoglobals // one plane per test process

func startPlane() (*plane, error) {
	p := &plane{}
	var err error
	if p.bin, err = binDir(); err != nil {
		return nil, err
	}
	if p.components, err = componentsDir(); err != nil {
		return nil, err
	}
	if p.network, err = newNetwork(); err != nil {
		return nil, err
	}
	if p.dir, err = os.MkdirTemp(fastDir(), "dapr"); err != nil {
		return nil, err
	}
	if p.alive, err = sweep(p.dir); err != nil {
		return nil, err
	}
	return p, errors.Join(p.startRedis(), p.startPlacement(), p.startScheduler())
}

// binDir finds the programs that `make dapr-build` made.
func binDir() (string, error) {
	dir := os.Getenv(BinDirEnv)
	if dir == "" {
		return "", fmt.Errorf("%s is not set, so these tests have no Dapr to run against: run `make test`, which builds one and sets it", BinDirEnv)
	}
	for _, name := range []string{"daprd", "placement", "scheduler"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("%s=%s holds no %s, so these tests have no Dapr to run against: run `make dapr-build` once", BinDirEnv, dir, name)
		}
	}
	return filepath.Abs(dir)
}

// componentsDir finds deploy/dapr/components: the tests use what is deployed.
func componentsDir() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		found := filepath.Join(at, "deploy", "dapr", "components")
		if _, err := os.Stat(found); err == nil {
			return found, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no folder deploy/dapr/components above %s: run this inside a clone of the repository", dir)
		}
	}
}

// fastDir is a folder in memory where there is room in it: the scheduler's etcd
// waits for the disk at every write, and workflows with it. Measured with 240
// workflows: 6 s instead of 9.
func fastDir() string {
	const dir, room = "/dev/shm", 2 << 30
	var is unix.Statfs_t
	if err := unix.Statfs(dir, &is); err != nil || is.Bavail*uint64(is.Bsize) < room || unix.Access(dir, unix.W_OK) != nil {
		return "" // the usual one
	}
	return dir
}

// sweep starts a process that waits until this one is gone, which it sees by
// the end of its input, and then removes dir.
func sweep(dir string) (alive io.Closer, err error) {
	cmd := exec.Command("/bin/sh", "-c", `cat >/dev/null; sleep 1; rm -rf "$0"`, dir) // outlives us on purpose
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}                             // also when our whole group is killed
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	return in, cmd.Start()
}

// startRedis runs one that tells of changes, as the configuration store needs.
func (p *plane) startRedis() error {
	ports, err := p.network.ports(1)
	if err != nil {
		return err
	}
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return errors.New("redis-server is not installed, so these tests have no Redis: apt-get install redis-server")
	}
	p.redis = fmt.Sprint("127.0.0.1:", ports[0])
	redis, err := begin(p.network, exec.Command(path, "--port", fmt.Sprint(ports[0]), "--bind", "127.0.0.1", "--dir", p.dir,
		"--save", "", "--appendonly", "no", "--notify-keyspace-events", "KA"), "redis-server")
	if err != nil {
		return err
	}
	return p.await(redis, func(ctx context.Context) error { return p.tellRedis(ctx, "PING") })
}

// tellRedis sends commands that are answered with one line each.
func (p *plane) tellRedis(ctx context.Context, commands ...string) error {
	conn, err := p.network.dial(ctx, p.redis)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(startTimeout))
	answers := bufio.NewReader(conn)
	for _, command := range commands {
		if _, err := conn.Write([]byte(command + "\r\n")); err != nil {
			return err
		}
		answer, err := answers.ReadString('\n')
		if err != nil {
			return err
		}
		if strings.HasPrefix(answer, "-") {
			return fmt.Errorf("redis: %s: %s", command, answer)
		}
	}
	return nil
}

func (p *plane) startPlacement() error {
	ports, err := p.network.ports(3)
	if err != nil {
		return err
	}
	p.placement = fmt.Sprint("127.0.0.1:", ports[0])
	placement, err := begin(p.network, exec.Command(filepath.Join(p.bin, "placement"), "--port", fmt.Sprint(ports[0]),
		"--healthz-port", fmt.Sprint(ports[1]), "--metrics-port", fmt.Sprint(ports[2]), "--listen-address", "127.0.0.1",
		"--healthz-listen-address", "127.0.0.1", "--metrics-listen-address", "127.0.0.1"), "placement")
	if err != nil {
		return err
	}
	return p.await(placement, p.healthy(ports[1]))
}

func (p *plane) startScheduler() error {
	ports, err := p.network.ports(5)
	if err != nil {
		return err
	}
	p.scheduler = fmt.Sprint("127.0.0.1:", ports[0])
	cmd := exec.Command(filepath.Join(p.bin, "scheduler"), "--port", fmt.Sprint(ports[0]),
		"--healthz-port", fmt.Sprint(ports[1]), "--metrics-port", fmt.Sprint(ports[2]), "--listen-address", "127.0.0.1",
		"--healthz-listen-address", "127.0.0.1", "--metrics-listen-address", "127.0.0.1",
		"--etcd-data-dir", filepath.Join(p.dir, "scheduler"), "--override-broadcast-host-port", p.scheduler, "--id", "scheduler",
		"--etcd-initial-cluster", fmt.Sprintf("scheduler=http://127.0.0.1:%d", ports[3]), "--etcd-client-port", fmt.Sprint(ports[4]))
	scheduler, err := begin(p.network, cmd, "scheduler")
	if err != nil {
		return err
	}
	return p.await(scheduler, p.healthy(ports[1]))
}

// healthy asks a program by HTTP whether it is.
func (p *plane) healthy(port int) func(context.Context) error {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, address string) (net.Conn, error) { return p.network.dial(ctx, address) },
	}}
	return func(ctx context.Context) error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, fmt.Sprintf("http://127.0.0.1:%d/healthz", port), http.NoBody)
		if err != nil {
			return err
		}
		answer, err := client.Do(request)
		if err != nil {
			return err
		}
		_ = answer.Body.Close()
		if answer.StatusCode/100 != 2 {
			return errors.New(answer.Status)
		}
		return nil
	}
}

// await asks until a program is ready, has ended, or has taken too long.
func (p *plane) await(program *process, ready func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-program.done:
			return fmt.Errorf("%s has ended: %w\n%s", program.name, err, program.said.String())
		case <-ctx.Done():
			return fmt.Errorf("%s is not ready after %s: %w\n%s", program.name, startTimeout, err, program.said.String())
		case <-tick.C:
		}
	}
}

// Flush forgets all that the real sidecars of this process have kept in Redis:
// state, topics and settings. Meanwhile no other test may run that has one.
func Flush(tb testing.TB) {
	tb.Helper()
	p, err := shared()
	require.NoError(tb, err)
	require.NoError(tb, p.tellRedis(context.WithoutCancel(tb.Context()), "FLUSHALL"))
}

// SetConfiguration changes a setting in the configuration store of the real
// sidecars, behind their backs. Neither may have white space.
func SetConfiguration(tb testing.TB, key, value string) {
	tb.Helper()
	p, err := shared()
	require.NoError(tb, err)
	require.NoError(tb, p.tellRedis(tb.Context(), "SELECT 3", "SET "+key+" "+value))
}
