package lattice

import (
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
	"github.com/heftstore/heft/registry"
)

// verdict is what only a look at all records tells of one.
type verdict uint8

const (
	sameID        verdict = 1 << iota // another record before it has the id
	noParent                          // there is no record with the id of its parent
	parentCut                         // it would be its own ancestor
	notProduction                     // a later version of the name is in production
	tooLarge                          // a value is over its limit
)

// conversion turns a record into an Item.
type conversion struct {
	rec     *record
	item    *migrate.Item
	details details
	claims  []string // paths of the weights that are the row's
	errs    []error
}

// convert takes what is in the record itself. The weights are left to the
// caller, who then calls finish.
func convert(rec *record, v verdict) *conversion {
	c := &conversion{rec: rec, item: &migrate.Item{From: rec.from}, details: details{Kept: map[string]kept{}}}
	c.item.Model.Origin = &registry.Origin{Source: kind}
	c.identity(v)
	c.status(v)
	c.times()
	c.item.Model.RegisteredBy = c.tidy(colRegisteredBy, maxRegisteredBy)
	c.item.Model.Description = c.tidy(colDescription, maxDescription)
	c.metadata()
	c.parent(v)
	for _, u := range rec.unknown {
		if c.details.Columns == nil {
			c.details.Columns = map[string]json.RawMessage{}
		}
		c.details.Columns[strings.ToValidUTF8(u.name, "\uFFFD")] = encode(u.value)
	}
	return c
}

// finish returns the Item.
func (c *conversion) finish() *migrate.Item {
	raw, err := canon.Marshal(c.details)
	if err == nil && len(raw) > entry.MaxDetails {
		err = fmt.Errorf("what has to be kept of it besides the version has %d bytes, over the limit of %d: shorten its longest columns", len(raw), entry.MaxDetails)
	}
	if err != nil {
		c.fail("%w", err)
	} else if string(raw) != "{}" {
		c.item.Model.Origin.Details = raw
	}
	c.item.Err = errors.Join(c.errs...)
	return c.item
}

func (c *conversion) note(format string, args ...any) {
	c.item.Notes = append(c.item.Notes, fmt.Sprintf(format, args...))
}

func (c *conversion) fail(format string, args ...any) {
	c.errs = append(c.errs, fmt.Errorf(format, args...))
}

// keep keeps the value of a column as it was, for as long as heft has as in its
// place.
func (c *conversion) keep(col column, as string) {
	c.details.Kept[col.String()] = kept{Was: encode(c.rec.cells[col]), As: mark(as)}
}

// keepAlways keeps the value of a column for which heft has something that
// never changes.
func (c *conversion) keepAlways(col column) {
	c.details.Kept[col.String()] = kept{Was: encode(c.rec.cells[col])}
}

// label returns the text of a name or version, which only text and integers are.
func (c *conversion) label(col column) string {
	switch v := c.rec.cells[col].(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	default:
		c.fail("the %s is %s, not text: give it one", col, show(v))
		return ""
	}
}

func (c *conversion) identity(v verdict) {
	m := &c.item.Model
	before := len(c.errs)
	m.Name, m.Version = c.label(colName), c.label(colVersion)
	if len(c.errs) == before {
		if _, err := name.ParseName(m.Name); err != nil {
			c.fail("%w", err)
		}
		if _, err := name.ParseVersion(m.Version); err != nil {
			c.fail("%w", err)
		}
	}
	id := c.rec.cells[colID]
	m.ID = idOf(c.rec)
	_, legacy := identify(id)
	switch {
	case none(id):
		c.note("it has no id: it gets %s, which follows from its name and version", m.ID)
		c.keep(colID, m.ID.String())
	case legacy != "":
		m.Origin.LegacyID = strings.ToValidUTF8(legacy, "\uFFFD")
		if id != any(m.Origin.LegacyID) { // it is no text that JSON has a form for
			c.keep(colID, m.ID.String())
		}
		c.note("its id %s becomes %s", show(id), m.ID)
	}
	if v&sameID != 0 {
		c.fail("its id %s is that of another version before it: give it one of its own", show(id))
	}
}

// idOf returns the id of a record, never zero.
func idOf(rec *record) uuid.UUID {
	if id, _ := identify(rec.cells[colID]); id != uuid.Nil {
		return id
	}
	return nameless(text(rec.cells[colName]), text(rec.cells[colVersion]))
}

// statusOf reads a status. ok is false for one that is unknown.
func statusOf(v any) (s registry.Status, ok bool) {
	t, isText := v.(string)
	if !isText {
		return registry.Pending, false
	}
	s, err := registry.ParseStatus(strings.TrimSpace(t))
	if err != nil {
		return registry.Pending, false
	}
	return s, true
}

func (c *conversion) status(v verdict) {
	was := c.rec.cells[colStatus]
	s, ok := statusOf(was)
	if !ok {
		c.note("its status %s is unknown: it becomes %s", show(was), s)
	}
	if v&notProduction != 0 {
		s = registry.Staged
		c.note("a version of the same name that was changed later is in production, and there can be one: it becomes %s", s)
	}
	c.item.Model.Status = s
	if was != any(string(s)) {
		c.keep(colStatus, string(s))
	}
}

// timesOf reads both times of a record. One that is missing is the other's
// business: updated is then registered.
func timesOf(rec *record) (registered, updated int64, err error) {
	read := func(col column) int64 {
		micros, e := parseTime(rec.cells[col])
		if e != nil {
			err = errors.Join(err, fmt.Errorf("%s is %s: %w", col, show(rec.cells[col]), e))
		}
		return micros
	}
	registered = read(colRegisteredAt)
	if rec.cells[colUpdatedAt] == nil {
		return registered, registered, err
	}
	return registered, read(colUpdatedAt), err
}

func (c *conversion) times() {
	m := &c.item.Model
	var err error
	if m.RegisteredAt, m.UpdatedAt, err = timesOf(c.rec); err != nil {
		c.fail("%w", err)
		return
	}
	if c.rec.cells[colUpdatedAt] == nil {
		c.note("it has no updated_at: that becomes its registered_at")
		c.keep(colUpdatedAt, strconv.FormatInt(max(1, m.RegisteredAt), 10))
	}
	m.RegisteredAt = c.time(colRegisteredAt, m.RegisteredAt)
	m.UpdatedAt = c.time(colUpdatedAt, m.UpdatedAt)
}

// time returns the time as the registry takes it, and keeps what that lacks.
func (c *conversion) time(col column, micros int64) int64 {
	was := c.rec.cells[col]
	if micros == 0 {
		micros = 1
		if was != nil {
			c.note("its %s is the very beginning of 1970, which the registry takes for no time: it becomes one microsecond later", col)
		}
	}
	if s, ok := was.(string); ok && !isDigits(s) || micros == 1 && was != nil {
		c.keep(col, strconv.FormatInt(micros, 10)) // its offset, and digits after the sixth
	}
	return micros
}

// The registry's limits on text, in bytes.
const (
	maxRegisteredBy = 256
	maxDescription  = 64 << 10
)

// tidy returns text that the registry takes.
func (c *conversion) tidy(col column, limit int) string {
	was := c.rec.cells[col]
	s := text(was)
	t := tidyText(s, limit)
	if t != s {
		c.note("its %s has characters or a length that the registry refuses: it was tidied", col)
	}
	if t != s || s == "" && was != nil {
		c.keep(col, t)
	}
	if s == "" && col == colRegisteredBy {
		c.keepAlways(col) // the registry puts whoever imports it there
	}
	return t
}

// tidyText makes line ends LF, replaces what is no UTF-8 or a control
// character, and cuts off what is over the limit.
func tidyText(s string, limit int) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.Map(func(r rune) rune {
		switch {
		case r == '\r':
			return '\n'
		case unicode.IsControl(r) && r != '\t' && r != '\n':
			return '\uFFFD'
		}
		return r
	}, s)
	if len(s) <= limit {
		return s
	}
	s = s[:limit]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s
}

func (c *conversion) metadata() {
	was := c.rec.cells[colMetadata]
	m, err := readMetadata(was)
	if err != nil {
		c.fail("%w", err)
		return
	}
	c.item.Model.Metadata = m.Metadata
	c.details.Metadata = m.form
	if m.form != "" {
		c.note("its metadata is not of the registry's shape (%s): all of it is kept as its extra metadata", m.form)
	}
	_, isText := was.(string)
	exact := m.same || m.form == formBlob || m.form != "" && isText
	if !exact && was != nil && len(text(was)) <= maxKept {
		c.keep(colMetadata, string(m.text))
	}
}

func (c *conversion) parent(v verdict) {
	was := c.rec.cells[colParentID]
	id, legacy := identify(was)
	switch {
	case v&noParent != 0:
		c.note("its parent %s does not exist: it is imported without one", show(was))
		id = uuid.Nil
	case v&parentCut != 0:
		c.note("it is its own ancestor: it is imported without its parent %s", show(was))
		id = uuid.Nil
	}
	c.item.Model.Parent = id
	if was != nil && (id == uuid.Nil || legacy != "") {
		c.keep(colParentID, idText(id))
	}
}

// idText returns "" for no id.
func idText(id uuid.UUID) string {
	if id == uuid.Nil {
		return ""
	}
	return id.String()
}
