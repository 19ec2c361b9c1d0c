package daprtest

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"runtime"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// network is where Dapr's programs run. Some of their ports listen on all
// addresses whatever they are told, so with root it is a network namespace of
// its own, with nothing but loopback; else it is the machine's.
type network struct {
	// tasks are run by one goroutine that keeps its thread for ever: a namespace
	// belongs to a thread, its children inherit it, and they are killed when it
	// ends, which is with this process.
	tasks chan func()
	own   bool         // a namespace of its own
	given atomic.Int64 // ports
}

func newNetwork() (*network, error) {
	n := &network{tasks: make(chan func()), own: os.Geteuid() == 0}
	entered := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		err := n.enter()
		entered <- err
		if err != nil {
			return // the thread ends too
		}
		for task := range n.tasks {
			task()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	return n, nil
}

func (n *network) enter() error {
	if !n.own {
		return nil
	}
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(socket) }()
	loopback, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	loopback.SetUint16(unix.IFF_UP | unix.IFF_MULTICAST) // multicast: sidecars find each other by mDNS
	return unix.IoctlIfreq(socket, unix.SIOCSIFFLAGS, loopback)
}

// do runs a task in the network.
func (n *network) do(task func()) {
	done := make(chan struct{})
	n.tasks <- func() {
		defer close(done)
		task()
	}
	<-done
}

// listen opens a TCP port in the network.
func (n *network) listen() (ln net.Listener, err error) {
	n.do(func() {
		ln, err = net.Listen("tcp", "127.0.0.1:0")
	})
	return ln, err
}

// ports finds n ports that are free. In a namespace of its own they are counted
// out below those that outgoing connections get, so that they stay free.
func (n *network) ports(count int) ([]int, error) {
	if n.own {
		const first = 10_000
		end := first + int(n.given.Add(int64(count)))
		found := make([]int, 0, count)
		for port := end - count; port < end; port++ {
			found = append(found, port)
		}
		return found, nil
	}
	held := make([]net.Listener, 0, count)
	defer func() {
		for _, ln := range held { // all at the end, so that they differ
			_ = ln.Close()
		}
	}()
	found := make([]int, 0, count)
	for range count {
		ln, err := n.listen()
		if err != nil {
			return nil, err
		}
		held = append(held, ln)
		found = append(found, ln.Addr().(*net.TCPAddr).Port)
	}
	return found, nil
}

// dial connects to a port in the network. The thread waits meanwhile: it is for
// loopback only.
func (n *network) dial(ctx context.Context, address string) (conn net.Conn, err error) {
	var d net.Dialer
	n.do(func() { conn, err = d.DialContext(ctx, "tcp4", address) })
	return conn, err
}

// start begins a program in the network, to be killed with this process.
func (n *network) start(cmd *exec.Cmd) (err error) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	n.do(func() { err = cmd.Start() })
	return err
}
