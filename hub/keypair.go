package hub

import (
	"crypto/tls"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// keyPair is a certificate in files that something else renews: it is read
// again when they changed, at most once in a while.
type keyPair struct {
	certFile, keyFile string

	mu      sync.Mutex // guards what follows
	current *tls.Certificate
	looked  time.Time
	changed time.Time
}

// lookEvery bounds how often the files' times are read.
const lookEvery = 10 * time.Second

func (k *keyPair) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.current != nil && time.Since(k.looked) < lookEvery {
		return k.current, nil
	}
	k.looked = time.Now()
	info, err := os.Stat(k.certFile)
	if err == nil && k.current != nil && info.ModTime().Equal(k.changed) {
		return k.current, nil
	}
	pair, loadErr := tls.LoadX509KeyPair(k.certFile, k.keyFile)
	if err != nil || loadErr != nil {
		if k.current != nil { // half written: the old one is better than none
			return k.current, nil
		}
		return nil, fmt.Errorf("api.tlsCertFile, api.tlsKeyFile: %w", errors.Join(err, loadErr))
	}
	k.current, k.changed = &pair, info.ModTime()
	return k.current, nil
}
