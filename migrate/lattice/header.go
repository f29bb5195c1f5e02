package lattice

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"unicode/utf8"
)

// The header of a database: https://www.sqlite.org/fileformat2.html#the_database_header
const (
	magic      = "SQLite format 3\x00"
	headerSize = 100

	atPageSize     = 16 // big endian; 1 means 65536
	atWriteVersion = 18 // 1 rollback journal, 2 write-ahead log
	atReadVersion  = 19
	atCounter      = 24 // of changes
	atPages        = 28 // only valid if the next two are equal
	atValidFor     = 92 // the counter when atPages was written
)

// isDatabase reports whether path is a regular file, or a link to one, that begins
// as a database does.
func isDatabase(path string) (is bool, err error) {
	// Opening anything else could wait for ever.
	if info, err := os.Stat(path); err != nil || !info.Mode().IsRegular() {
		return false, err
	}
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	head, err := readHead(f, len(magic))
	return string(head) == magic, err
}

// readHead returns the first n bytes, or fewer if there are no more.
func readHead(f *os.File, n int) ([]byte, error) {
	head := make([]byte, n)
	n, err := f.ReadAt(head, 0)
	if err == io.EOF {
		err = nil
	}
	return head[:n], err
}

// header is the beginning of a database.
type header []byte

// checkHeader refuses what is no database: head is its beginning, size that of
// all of it.
func checkHeader(path string, head []byte, size int64) (header, error) {
	switch {
	case size == 0:
		return nil, fmt.Errorf("%s is empty, not a database: give the path of the registry's own file, or restore it", path)
	case !bytes.HasPrefix(head, []byte(magic)):
		return nil, fmt.Errorf("%s is not a SQLite database: %s", path, lookAlike(head))
	case len(head) < headerSize:
		return nil, truncated(path, size, headerSize)
	}
	return head, nil
}

func truncated(path string, size, want int64) error {
	return fmt.Errorf("%s is cut off: it has %d bytes of the %d that its header tells of: restore it from a copy, or save what is left with: sqlite3 OLD '.recover' | sqlite3 NEW", path, size, want)
}

// writeAhead reports whether the database keeps a write-ahead log.
func (h header) writeAhead() bool { return h[atWriteVersion] == 2 || h[atReadVersion] == 2 }

// wants returns how many bytes the database has by its own account, 0 if it
// gives none.
func (h header) wants() int64 {
	if !bytes.Equal(h[atCounter:atCounter+4], h[atValidFor:atValidFor+4]) {
		return 0
	}
	page := int64(binary.BigEndian.Uint16(h[atPageSize:]))
	if page == 1 {
		page = 65536
	}
	return page * int64(binary.BigEndian.Uint32(h[atPages:]))
}

// lookAlike says what a file that is no database seems to be.
func lookAlike(head []byte) string {
	text := strings.ToLower(strings.TrimSpace(strings.ToValidUTF8(string(head), "?")))
	starts := func(prefixes ...string) bool {
		for _, p := range prefixes {
			if strings.HasPrefix(text, p) {
				return true
			}
		}
		return false
	}
	switch {
	case bytes.HasPrefix(head, []byte("** This file contains an SQLite 2")):
		return "it is one of SQLite 2, which needs the sqlite program of then to be dumped"
	case starts("version https://git-lfs"):
		return "it looks like a Git LFS pointer: run git lfs pull first"
	case starts("pragma ", "begin transaction", "create table", "insert into", "-- "):
		return "it looks like SQL text: load it first, with: sqlite3 NEW < FILE"
	case starts("{", "["):
		return "it looks like JSON"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")), bytes.HasPrefix(head, []byte("\x1f\x8b")),
		bytes.HasPrefix(head, []byte("\x28\xb5\x2f\xfd")), bytes.HasPrefix(head, []byte("\xfd7zXZ")):
		return "it looks compressed: unpack it first"
	case len(head) > 12 && string(head[8:12]) == "DUCK":
		return "it looks like a DuckDB database"
	case len(bytes.Trim(head, "\x00")) == 0:
		return "it is full of zeros: restore it from a copy"
	case utf8.Valid(head):
		return fmt.Sprintf("it looks like text that begins with %.40q", text)
	}
	return "it is of a format unknown here, or encrypted"
}
