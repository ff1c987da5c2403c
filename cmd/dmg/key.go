package main

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/go-dmg/dmg"
)

// keyVar is the environment variable that may hold a key, as a key file does.
const keyVar = "DMG_KEY"

// givenKey puts the keys that were given into opts and says where they came from: nowhere
// if there are none. A file goes before the environment, as with passwords.
func (f *passwordFlags) givenKey(std *stdio, opts *dmg.Options) (from string, err error) {
	var b []byte
	switch f.KeyFile {
	case "":
		if from, b = keyVar, []byte(os.Getenv(keyVar)); len(b) == 0 {
			return "", nil
		}
	case "-":
		if f.PasswordFile == "-" {
			return "", errors.New("standard input can't be the password and the key")
		}
		from = "standard input"
		b, err = readKey(std.in)
	default:
		file, err := os.Open(f.KeyFile)
		if err != nil {
			return "", err
		}
		defer file.Close()
		from = f.KeyFile
		if b, err = readKey(file); err != nil {
			return "", fmt.Errorf("%s: %w", from, err)
		}
	}
	if err == nil {
		err = parseKeys(b, opts)
	}
	if err != nil {
		return "", fmt.Errorf("%s: %w", from, err)
	}
	return from, nil
}

// readKey reads a key up to the end of r.
func readKey(r io.Reader) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPassword+1))
	if err == nil && len(b) > maxPassword {
		err = fmt.Errorf("longer than %d bytes, so not a key", maxPassword)
	}
	return b, err
}

// parseKeys puts keys into opts: private and public ones in PEM, of which there may be
// several, or else one symmetric key.
func parseKeys(b []byte, opts *dmg.Options) error {
	block, rest := pem.Decode(b)
	if block == nil {
		key, err := symmetricKey(b)
		opts.Key = key
		return err
	}
	for ; block != nil; block, rest = pem.Decode(rest) {
		if err := parsePEM(block, opts); err != nil {
			return err
		}
	}
	return nil
}

// parsePEM puts the key of a block into opts.
func parsePEM(block *pem.Block, opts *dmg.Options) error {
	var private crypto.PrivateKey
	var public crypto.PublicKey
	var err error
	switch block.Type {
	case "PRIVATE KEY":
		private, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		private, err = x509.ParseECPrivateKey(block.Bytes)
	case "RSA PRIVATE KEY":
		private, err = x509.ParsePKCS1PrivateKey(block.Bytes)
	case "PUBLIC KEY":
		public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		var cert *x509.Certificate
		if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
			public = cert.PublicKey
		}
	case "EC PARAMETERS": // which openssl writes before the key
	case "ENCRYPTED PRIVATE KEY":
		err = errors.New("the private key is encrypted: decrypt it with openssl pkey")
	default:
		err = fmt.Errorf("a PEM block %q is no key", block.Type)
	}
	if private != nil {
		opts.PrivateKey = private
	}
	if public != nil {
		opts.PublicKey = public
	}
	return err
}

// keyLen is the length of a symmetric key in bytes.
const keyLen = 32

// symmetricKey returns the key that a file holds: hexadecimal, base64 with or without the
// mark that Apple's tools write, or the bytes themselves.
func symmetricKey(b []byte) ([]byte, error) {
	if len(b) == keyLen {
		return b, nil
	}
	text := strings.TrimSpace(string(b))
	text = strings.TrimPrefix(strings.TrimPrefix(text, "base64:"), "hex:")
	for _, decode := range []func(string) ([]byte, error){
		hex.DecodeString, base64.StdEncoding.DecodeString, base64.RawStdEncoding.DecodeString, base64.URLEncoding.DecodeString,
	} {
		if key, err := decode(text); err == nil && len(key) == keyLen {
			return bytes.Clone(key), nil
		}
	}
	return nil, fmt.Errorf("no key: neither PEM, nor %d bytes in hexadecimal, in base64, or as they are", keyLen)
}
