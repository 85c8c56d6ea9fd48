package demo

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

const keySize = 32 // bytes

// NewKeys returns one random key, for a server that runs alone: its codes are lost
// with it.
func NewKeys() [][]byte {
	key := make([]byte, keySize)
	_, _ = rand.Read(key) // It never fails.
	return [][]byte{key}
}

// LoadKeys reads the keys in a file, one in hex on each line, the newest first. It
// creates the file with one key when there is none. Replicas that start at the same
// time end up with the same key.
func LoadKeys(file string) ([][]byte, error) {
	content, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		if err = createKeys(file); err == nil {
			content, err = os.ReadFile(file)
		}
	}
	if err != nil {
		return nil, err
	}
	var keys [][]byte
	for i, line := range strings.Fields(string(content)) {
		key, err := hex.DecodeString(line)
		if err != nil || len(key) < keySize {
			return nil, fmt.Errorf("%s: key %d is not at least %d bytes in hex", file, i+1, keySize)
		}
		keys = append(keys, key)
	}
	if len(keys) == 0 {
		return nil, fmt.Errorf("%s holds no key", file)
	}
	return keys, nil
}

// createKeys puts one key in place unless another process was faster.
func createKeys(file string) error {
	return CreateFile(file, hex.EncodeToString(NewKeys()[0])+"\n")
}

// CreateFile puts a file in place that only its owner can read, and that is complete
// from the start. It does nothing when there is one: a link, like O_EXCL, never
// replaces what is there.
func CreateFile(file, content string) (err error) {
	temp, err := os.CreateTemp(filepath.Dir(file), filepath.Base(file)+".*") // With mode 0600.
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(temp.Name())) }()
	_, err = temp.WriteString(content)
	if err = errors.Join(err, temp.Sync(), temp.Close()); err != nil {
		return err
	}
	err = os.Link(temp.Name(), file)
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}
