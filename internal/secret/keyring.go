package secret

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/tink-crypto/tink-go/v2/aead"
	"github.com/tink-crypto/tink-go/v2/insecurecleartextkeyset"
	"github.com/tink-crypto/tink-go/v2/keyset"
	"github.com/tink-crypto/tink-go/v2/tink"
)

// kekFile holds the key-encryption keys as a Tink keyset. Tink calls the form
// cleartext: whoever reads this file and the database reads every secret.
const kekFile = "kek.json"

// Keyring seals records, each with its own AES-256-GCM data key which is
// wrapped by the key-encryption key in the keyring's folder.
type Keyring struct{ envelope tink.AEAD }

// OpenKeyring reads the key in dir, and makes it on first use: the folder for
// its owner only, the file 0600. Of several who start at once one wins and all
// use its key.
func OpenKeyring(dir string) (*Keyring, error) {
	path := filepath.Join(dir, kekFile)
	handle, err := readKeyset(path)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createKeyset(dir, path); err != nil {
			return nil, err
		}
		handle, err = readKeyset(path)
	}
	if err != nil {
		return nil, err
	}
	kek, err := aead.New(handle)
	if err != nil {
		return nil, fmt.Errorf("use key %s: %w", path, err)
	}
	return &Keyring{envelope: aead.NewKMSEnvelopeAEAD2(aead.AES256GCMKeyTemplate(), kek)}, nil
}

// Seal encrypts plaintext. What associatedData says, e.g. the table and id of
// the record, is bound to the result: Unseal needs the same.
func (k *Keyring) Seal(plaintext, associatedData []byte) ([]byte, error) {
	sealed, err := k.envelope.Encrypt(plaintext, associatedData)
	if err != nil {
		return nil, fmt.Errorf("seal secret: %w", err)
	}
	return sealed, nil
}

// Unseal decrypts what Seal made.
func (k *Keyring) Unseal(sealed, associatedData []byte) ([]byte, error) {
	plaintext, err := k.envelope.Decrypt(sealed, associatedData)
	if err != nil {
		return nil, fmt.Errorf("unseal secret (is %s the one that sealed it?): %w", kekFile, err)
	}
	return plaintext, nil
}

func readKeyset(path string) (*keyset.Handle, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read key: %w", err)
	}
	handle, err := insecurecleartextkeyset.Read(keyset.NewJSONReader(bytes.NewReader(data)))
	if err != nil {
		return nil, fmt.Errorf("key file %s is not a Tink keyset in JSON; restore it from a backup, since nothing sealed with it can be read without it: %w",
			path, err)
	}
	return handle, nil
}

// NewKeyset makes a key-encryption key in the form of the keyring's file, for
// those who bring that file from elsewhere: a Secret that all replicas mount.
func NewKeyset() ([]byte, error) {
	handle, err := keyset.NewHandle(aead.AES256GCMKeyTemplate())
	if err != nil {
		return nil, fmt.Errorf("make key: %w", err)
	}
	var buf bytes.Buffer
	if err := insecurecleartextkeyset.Write(handle, keyset.NewJSONWriter(&buf)); err != nil {
		return nil, fmt.Errorf("encode key: %w", err)
	}
	return buf.Bytes(), nil
}

// createKeyset writes a whole file aside and links it into place, so that no
// reader meets half of it and no starter overwrites another's.
func createKeyset(dir, path string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make key folder: %w", err)
	}
	content, err := NewKeyset()
	if err != nil {
		return err
	}
	tmp, err := os.CreateTemp(dir, kekFile+".*") // 0600 by CreateTemp's contract
	if err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	defer func() { _ = os.Remove(tmp.Name()) }()
	_, werr := tmp.Write(content)
	if err := errors.Join(werr, tmp.Sync(), tmp.Close()); err != nil {
		return fmt.Errorf("write key: %w", err)
	}
	if err := os.Link(tmp.Name(), path); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("write key: %w", err)
	}
	return nil
}
