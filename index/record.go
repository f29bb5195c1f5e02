package index

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/name"
)

// Version is all that the index knows of one version but its files. Times are
// microseconds since the Unix epoch, UTC.
type Version struct {
	ID           uuid.UUID       `json:"id"`
	Name         name.Name       `json:"name"`
	Version      name.Version    `json:"version"`
	Status       string          `json:"status"`            // 1 to 64 bytes of printable text
	Manifest     blob.Digest     `json:"manifest"`          // identifies the version
	Metadata     json.RawMessage `json:"metadata,omitzero"` // canonical JSON, nil for none
	RegisteredAt int64           `json:"registered_at"`     // may lie before the record's time, for what was migrated
	UpdatedAt    int64           `json:"updated_at"`        // of the last change of status, alias or metadata
	RegisteredBy string          `json:"registered_by,omitzero"`
	Description  string          `json:"description,omitzero"`
	Size         int64           `json:"size"`            // bytes, the sum of the files
	Hash         blob.Digest     `json:"hash"`            // of the only file, or the manifest when there are several
	Files        int             `json:"file_count"`      // number of files
	Parent       uuid.UUID       `json:"parent,omitzero"` // zero for none; it may be deleted since
	Origin       json.RawMessage `json:"origin,omitzero"` // canonical JSON, nil for none: where it was imported from
	Seq          uint64          `json:"seq"`             // of the journal record that registered it
}

// File is one file of a version.
type File struct {
	Path   name.Path   `json:"path"`
	Digest blob.Digest `json:"digest"`
	Size   int64       `json:"size"` // plain bytes
}

// FileEntry is a file, found by its full path: name/version/path.
type FileEntry struct {
	Full         string
	Version      uuid.UUID
	File         File
	RegisteredAt int64 // of its version, in microseconds
}

// AliasEntry is one alias of a name.
type AliasEntry struct {
	Name  name.Name
	Alias name.Alias
	ID    uuid.UUID // of the version that it labels
}

// BlobInfo is what the index keeps of a blob. The blob's file is the truth.
type BlobInfo struct {
	Digest blob.Digest
	Size   int64         // plain bytes
	Stored int64         // bytes of its file
	Parts  blob.Parts    // how its frames are stored
	Donors []blob.Digest // the blobs whose frames it needs, ascending
}

// Change says why an Update is made. It is written in the journal.
type Change struct {
	Verb   string // what was asked, such as "register" or "rollback"; required, and never "create"
	Actor  string // who asked, "" when not known
	Reason string // why, for people
}

// Record is one record of the journal: one transaction.
type Record struct {
	Seq    uint64      `json:"seq"`
	Time   int64       `json:"time"` // microseconds since the Unix epoch; order comes from Seq
	Prev   blob.Digest `json:"prev"` // of the record before; zero in record 0
	Verb   string      `json:"verb"`
	Actor  string      `json:"actor,omitzero"`
	Reason string      `json:"reason,omitzero"`
	Store  uuid.UUID   `json:"store,omitzero"` // record 0 only
	Ops    []Op        `json:"ops"`            // made together
}

// Op is one change of names, or a fact about content. Exactly one field is set.
type Op struct {
	Register *Register       `json:"register,omitzero"`
	Status   *StatusChange   `json:"status,omitzero"`
	Alias    *AliasChange    `json:"alias,omitzero"`
	Metadata *MetadataChange `json:"metadata,omitzero"`
	Delete   *Deletion       `json:"delete,omitzero"`
	SHA256   *ContentSHA256  `json:"sha256,omitzero"`
}

// Register makes a version known, with its files in ascending order of path.
type Register struct {
	Version Version `json:"version"`
	Files   []File  `json:"files"`
}

// StatusChange gives a version another status.
type StatusChange struct {
	ID   uuid.UUID `json:"id"`
	From string    `json:"from"`
	To   string    `json:"to"`
}

// AliasChange makes, moves or removes an alias.
type AliasChange struct {
	Name  name.Name  `json:"name"`
	Alias name.Alias `json:"alias"`
	From  uuid.UUID  `json:"from,omitzero"` // zero when the alias is new
	To    uuid.UUID  `json:"to,omitzero"`   // zero when it is removed
}

// MetadataChange replaces what is known of a version.
type MetadataChange struct {
	ID          uuid.UUID       `json:"id"`
	Metadata    json.RawMessage `json:"metadata,omitzero"`
	Description string          `json:"description,omitzero"`
}

// Deletion removes a version, its paths and the aliases that point at it. Its
// blobs stay until they are collected.
type Deletion struct {
	ID      uuid.UUID    `json:"id"`
	Name    name.Name    `json:"name"`
	Version name.Version `json:"version"`
}

// ContentSHA256 says what the SHA-256 of a blob's plain content is. It stays
// when the versions that hold the blob, or the blob, are gone.
type ContentSHA256 struct {
	Blob   blob.Digest `json:"blob"`
	SHA256 SHA256      `json:"sha256"`
}

// SHA256 is the SHA-256 of some content, as sha256sum prints it.
type SHA256 [32]byte

// String returns 64 lower-case hex digits.
func (h SHA256) String() string { return hex.EncodeToString(h[:]) }

// MarshalText returns what String does.
func (h SHA256) MarshalText() ([]byte, error) { return []byte(h.String()), nil }

// UnmarshalText reads 64 hex digits, in either case. Anything else is an error
// that wraps fs.ErrInvalid.
func (h *SHA256) UnmarshalText(text []byte) error {
	var read SHA256
	if len(text) != 2*len(read) {
		return fmt.Errorf("index: %w: %.80q has %d characters, and a SHA-256 has %d hex digits", fs.ErrInvalid, text, len(text), 2*len(read))
	}
	if _, err := hex.Decode(read[:], text); err != nil {
		return fmt.Errorf("index: %w: %.80q is no SHA-256: it holds something other than the hex digits 0-9 and a-f", fs.ErrInvalid, text)
	}
	*h = read
	return nil
}
