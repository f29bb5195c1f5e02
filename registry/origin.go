package registry

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
)

// Origin says where an imported version comes from. It never changes.
type Origin struct {
	Source   string `json:"source"`             // the layout, such as "lattice"
	LegacyID string `json:"legacy_id,omitzero"` // what identified it there, if that was no UUID in its usual form

	// Fingerprint is of all that the source said of it: an equal one means that
	// nothing has changed there since.
	Fingerprint blob.Digest `json:"fingerprint,omitzero"`

	// Details is a JSON object of what has no place elsewhere, so that the
	// source's layout can be written again.
	Details json.RawMessage `json:"details,omitempty"`
}

// maxOrigin is the most bytes of an Origin, as canonical JSON.
const maxOrigin = 512 << 10

// encode checks the origin and returns it as canonical JSON, nil for nil.
func (o *Origin) encode() (json.RawMessage, error) {
	if o == nil {
		return nil, nil
	}
	if o.Source == "" {
		return nil, fmt.Errorf("%w: an origin needs a source", ErrInvalid)
	}
	if err := checkText("source of the origin", o.Source, maxTag); err != nil {
		return nil, err
	}
	c := *o
	if len(c.Details) > 0 {
		details, err := canon.Compact(c.Details)
		if err == nil && details[0] != '{' {
			err = errors.New("they are no JSON object")
		}
		if err != nil {
			return nil, fmt.Errorf("%w: the details of the origin: %w", ErrInvalid, err)
		}
		c.Details = details
	}
	b, err := canon.Marshal(c)
	if err != nil {
		return nil, fmt.Errorf("%w: the origin: %w", ErrInvalid, err)
	}
	if len(b) > maxOrigin {
		return nil, fmt.Errorf("%w: the origin is %d bytes as JSON, over the limit of %d", ErrInvalid, len(b), maxOrigin)
	}
	return b, nil
}

func decodeOrigin(raw json.RawMessage) (*Origin, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	o := new(Origin)
	return o, canon.Decode(raw, o)
}
