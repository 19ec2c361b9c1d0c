package enroll

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"strconv"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/internal/pki"
)

// Keys of the Secret.
const (
	keyCertificate = "tls.crt"
	keyKey         = "tls.key"
	keyBundle      = "ca.crt"
	keyClusterID   = "cluster-id"
	keyClusterName = "cluster-name"
	keyClusterUID  = "cluster-uid"
	keyGeneration  = "generation"
	keyRenewAfter  = "renew-after"
	keyTokenID     = "token-id"
	// keyNext holds a key whose certificate has been asked for, or will be.
	keyNext = "next.key"
)

// ErrConflict means that another writer was faster: load and look again.
var ErrConflict = errors.New("the identity was changed by another writer")

// CorruptError is a Secret that holds an identity nobody can read.
type CorruptError struct {
	Secret, Key string
	Err         error
}

// Error names the key and what to do.
func (e *CorruptError) Error() string {
	return fmt.Sprintf("secret %s holds an unreadable %s (%v): delete the Secret and give a new join token to join again", e.Secret, e.Key, e.Err)
}

// Unwrap gives the cause.
func (e *CorruptError) Unwrap() error { return e.Err }

// Record is what the Secret holds.
type Record struct {
	Identity *Identity         // nil: never enrolled
	Next     *ecdsa.PrivateKey // nil: no certificate was asked for
	version  string            // empty: there is no Secret yet
}

// Store keeps the record in one Secret.
type Store struct {
	Client          kubernetes.Interface
	Namespace, Name string
}

// Load reads the record; it is empty when there is no Secret.
func (s *Store) Load(ctx context.Context) (*Record, error) {
	secret, err := s.Client.CoreV1().Secrets(s.Namespace).Get(ctx, s.Name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return &Record{}, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read identity from secret %s: %w", s, err)
	}
	return s.decode(secret)
}

// Save writes the record if nobody else wrote since it was loaded, and
// ErrConflict otherwise.
func (s *Store) Save(ctx context.Context, r *Record) error {
	data, err := encode(r)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{
			Name: s.Name, Namespace: s.Namespace, ResourceVersion: r.version,
			Labels: map[string]string{"app.kubernetes.io/managed-by": "budcluster-agent"},
		},
		Data: data,
	}
	secrets := s.Client.CoreV1().Secrets(s.Namespace)
	var saved *corev1.Secret
	if r.version == "" {
		saved, err = secrets.Create(ctx, secret, metav1.CreateOptions{})
	} else {
		saved, err = secrets.Update(ctx, secret, metav1.UpdateOptions{})
	}
	switch {
	// NotFound: the Secret was deleted under us, which is how people reset it.
	case apierrors.IsConflict(err), apierrors.IsAlreadyExists(err), apierrors.IsNotFound(err):
		return ErrConflict
	case err != nil:
		return fmt.Errorf("write identity to secret %s: %w", s, err)
	}
	r.version = saved.ResourceVersion
	return nil
}

// String is namespace/name.
func (s *Store) String() string { return s.Namespace + "/" + s.Name }

func encode(r *Record) (map[string][]byte, error) {
	data := map[string][]byte{}
	if i := r.Identity; i != nil {
		key, ok := i.Certificate.PrivateKey.(*ecdsa.PrivateKey)
		if !ok {
			return nil, fmt.Errorf("the identity's key is a %T and not ECDSA", i.Certificate.PrivateKey)
		}
		keyPEM, err := pki.EncodeKey(key)
		if err != nil {
			return nil, err
		}
		data[keyCertificate], data[keyKey], data[keyBundle] = i.chainPEM, keyPEM, i.BundlePEM
		data[keyClusterID], data[keyClusterName] = []byte(i.ClusterID), []byte(i.ClusterName)
		data[keyClusterUID], data[keyTokenID] = []byte(i.ClusterUID), []byte(i.TokenID)
		data[keyGeneration] = strconv.AppendInt(nil, i.Generation, 10)
		data[keyRenewAfter] = []byte(i.RenewAfter.UTC().Format(time.RFC3339Nano))
	}
	if r.Next != nil {
		keyPEM, err := pki.EncodeKey(r.Next)
		if err != nil {
			return nil, err
		}
		data[keyNext] = keyPEM
	}
	return data, nil
}

func (s *Store) decode(secret *corev1.Secret) (*Record, error) {
	r := &Record{version: secret.ResourceVersion}
	corrupt := func(key string, err error) error {
		return &CorruptError{Secret: s.String(), Key: key, Err: err}
	}
	// A key nobody has a certificate for is no loss.
	if next, err := decodeKey(secret.Data[keyNext]); err == nil {
		r.Next = next
	}
	if len(secret.Data[keyCertificate]) == 0 {
		return r, nil
	}
	key, err := decodeKey(secret.Data[keyKey])
	if err != nil {
		return nil, corrupt(keyKey, err)
	}
	i, err := parseIdentity(secret.Data[keyCertificate], key)
	if err != nil {
		return nil, corrupt(keyCertificate, err)
	}
	i.BundlePEM = secret.Data[keyBundle]
	i.ClusterID, i.ClusterName = string(secret.Data[keyClusterID]), string(secret.Data[keyClusterName])
	i.ClusterUID, i.TokenID = string(secret.Data[keyClusterUID]), string(secret.Data[keyTokenID])
	if i.Generation, err = strconv.ParseInt(string(secret.Data[keyGeneration]), 10, 64); err != nil {
		return nil, corrupt(keyGeneration, err)
	}
	if i.RenewAfter, err = time.Parse(time.RFC3339, string(secret.Data[keyRenewAfter])); err != nil {
		i.RenewAfter = defaultRenewal(i.Certificate.Leaf)
	}
	r.Identity = i
	return r, nil
}
