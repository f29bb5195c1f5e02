package blob

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"github.com/zeebo/blake3"
)

// Digest is the BLAKE3-256 of a blob's plain content, as b3sum prints it.
// It is comparable; the zero Digest names nothing.
type Digest [32]byte

// ErrDigest is wrapped by every error about text that is not a digest.
var ErrDigest = errors.New("blob: not a digest")

// Sum returns the digest of b.
func Sum(b []byte) Digest { return blake3.Sum256(b) }

// ParseDigest reads 64 hex digits, in either case, with or without the prefix
// "b3:". Anything else is an error that wraps ErrDigest.
func ParseDigest(s string) (Digest, error) {
	var d Digest
	h := strings.TrimPrefix(s, "b3:")
	if len(h) != 2*len(d) {
		return Digest{}, fmt.Errorf("%w: %q has %d digits, not %d; a shorter prefix works where a store can resolve it", ErrDigest, short(s), len(h), 2*len(d))
	}
	if _, err := hex.Decode(d[:], []byte(h)); err != nil {
		return Digest{}, fmt.Errorf("%w: %q holds something other than the hex digits 0-9 and a-f", ErrDigest, short(s))
	}
	return d, nil
}

// String returns 64 lower-case hex digits.
func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// Short returns the first 12 hex digits, for people.
func (d Digest) Short() string { return hex.EncodeToString(d[:6]) }

// IsZero reports whether d names nothing.
func (d Digest) IsZero() bool { return d == Digest{} }

// MarshalText returns what String does.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText does what ParseDigest does.
func (d *Digest) UnmarshalText(b []byte) (err error) {
	*d, err = ParseDigest(string(b))
	return err
}

// parsePrefix reads the beginning of a digest: 4 to 64 hex digits with or
// without "b3:", returned in lower case. Below 4 digits (65,536 values) a
// prefix is more likely a slip than a choice.
func parsePrefix(s string) (string, error) {
	h := strings.ToLower(strings.TrimPrefix(s, "b3:"))
	if len(h) < 4 || len(h) > 64 || strings.Trim(h, "0123456789abcdef") != "" {
		return "", fmt.Errorf("%w: %q: a prefix is 4 to 64 hex digits", ErrDigest, short(s))
	}
	return h, nil
}

// short cuts text that an error quotes.
func short(s string) string {
	if len(s) > 80 {
		return s[:80] + "…"
	}
	return s
}
