// Package entry makes the items of sources.
package entry

import (
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
)

// MaxDetails is the most bytes that a source puts into registry.Origin.Details:
// half of what an origin may have.
const MaxDetails = 256 << 10

// ID returns the UUID of version 5 (RFC 9562) of parts, parted by NUL, in a
// namespace, which is a UUID. It is the same in every import, so that a second
// one knows what the first one did: neither may ever change.
func ID(namespace string, parts ...string) uuid.UUID {
	return uuid.NewSHA1(uuid.MustParse(namespace), []byte(strings.Join(parts, "\x00")))
}

// Time returns a file's time in microseconds since the Unix epoch, as a version
// has it. Before 1970 only clocks that are wrong have been, and 0 means now.
func Time(t time.Time) int64 { return max(t.UnixMicro(), 1) }

// New returns an item about the place from in a source of that kind. Its id is
// that of the kind and parts.
func New(kind, namespace, from string, parts ...string) *migrate.Item {
	return &migrate.Item{
		From: strings.ToValidUTF8(from, "\uFFFD"),
		Model: registry.Model{
			ID:     ID(namespace, append([]string{kind}, parts...)...),
			Status: registry.Pending, RegisteredAt: 1, UpdatedAt: 1, Origin: &registry.Origin{Source: kind},
		},
	}
}
