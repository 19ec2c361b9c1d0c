//go:build e2e

package suite_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// postgres is a real server that pods of the cluster reach: on the address of
// this machine that they see, by password, over TLS with a CA of its own.
type postgres struct {
	dir, bin string
	owner    *syscall.Credential
	port     string
	password string
	ca       []byte // PEM
	process  *exec.Cmd
}

// newPostgres starts one that ends with the test.
func newPostgres(t *testing.T) *postgres {
	t.Helper()
	ports, err := freePorts(t.Context(), env.cluster.Address(), 1)
	require.NoError(t, err)
	p := &postgres{dir: filepath.Join(env.dir, "postgres-"+strings.ToLower(t.Name())), port: ports[0], password: strings.ToLower(rand.Text())}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	require.NoError(t, err)
	require.NotEmpty(t, found, "no PostgreSQL below /usr/lib/postgresql: apt-get install postgresql")
	p.bin = filepath.Dir(found[len(found)-1])
	p.owner = lendUser(t)
	p.make(t)
	p.start(t)
	t.Cleanup(func() {
		_ = p.process.Process.Signal(syscall.SIGQUIT)
		_ = p.process.Wait()
	})
	return p
}

// lendUser is a user that PostgreSQL may run as: never root.
func lendUser(t *testing.T) *syscall.Credential {
	t.Helper()
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	require.NoError(t, err)
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	require.NoError(t, err)
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	require.NoError(t, err)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
}

// make writes the database cluster, its certificate, and who may come in.
func (p *postgres) make(t *testing.T) {
	t.Helper()
	require.NoError(t, os.Mkdir(p.dir, 0o700))
	require.NoError(t, os.Chown(p.dir, int(p.owner.Uid), int(p.owner.Gid)))
	p.write(t, "password", []byte(p.password))
	out, err := p.command(t.Context(), "initdb", "-D", p.path("data"), "-U", "bud", "--pwfile="+p.path("password"),
		"--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-sync").CombinedOutput()
	require.NoError(t, err, "%s", out)
	p.write(t, "data/pg_hba.conf", []byte("hostssl all all 0.0.0.0/0 scram-sha-256\n"))
	certificate, key := p.certify(t)
	p.write(t, "data/server.crt", certificate)
	p.write(t, "data/server.key", key)
}

func (p *postgres) path(name string) string { return filepath.Join(p.dir, name) }

func (p *postgres) write(t *testing.T, name string, content []byte) {
	t.Helper()
	require.NoError(t, os.WriteFile(p.path(name), content, 0o600))
	require.NoError(t, os.Chown(p.path(name), int(p.owner.Uid), int(p.owner.Gid)))
}

// certify makes a certificate that is its own CA.
func (p *postgres) certify(t *testing.T) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, IPAddresses: []net.IP{net.ParseIP(env.cluster.Address())},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	p.ca = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	raw, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	return p.ca, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw})
}

func (p *postgres) command(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(p.bin, name), args...)
	cmd.Dir = p.dir
	cmd.Env = []string{"PATH=/usr/bin:/bin", "LC_ALL=C", "TZ=UTC"}
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGQUIT, Setpgid: true, Credential: p.owner}
	return cmd
}

func (p *postgres) start(t *testing.T) {
	t.Helper()
	var log bytes.Buffer
	// Not bound to the test's context: it must outlive what is cleaned up after it.
	p.process = p.command(context.WithoutCancel(t.Context()), "postgres", "-D", p.path("data"), "-p", p.port,
		"-c", "listen_addresses="+env.cluster.Address(), "-c", "unix_socket_directories="+p.dir, "-c", "ssl=on", "-c", "fsync=off")
	p.process.Stdout, p.process.Stderr = &log, &log
	require.NoError(t, p.process.Start())
	await(t, time.Minute, "PostgreSQL to take connections", func(ctx context.Context) error {
		conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", net.JoinHostPort(env.cluster.Address(), p.port))
		if err != nil {
			return fmt.Errorf("%w\n%s", err, log.String())
		}
		return conn.Close()
	})
}

// restart crashes the server and starts it again: clients are cut off, and it
// recovers what they had committed.
func (p *postgres) restart(t *testing.T) {
	t.Helper()
	require.NoError(t, p.process.Process.Signal(syscall.SIGQUIT))
	_ = p.process.Wait()
	p.start(t)
}

// url is what a client writes that trusts the CA in a file.
func (p *postgres) url(caFile string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword("bud", p.password), Host: net.JoinHostPort(env.cluster.Address(), p.port), Path: "/postgres",
		RawQuery: url.Values{"sslmode": {"verify-full"}, "sslrootcert": {caFile}}.Encode(),
	}
	return u.String()
}
