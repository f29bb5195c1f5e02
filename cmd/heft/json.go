package main

import (
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/registry"
)

// modelJSON is a model in the output of every verb with --json.
type modelJSON struct {
	Ref          string            `json:"ref"`
	ID           uuid.UUID         `json:"id"`
	Name         string            `json:"name"`
	Version      string            `json:"version"`
	Status       registry.Status   `json:"status"`
	Description  string            `json:"description,omitzero"`
	WeightsSize  int64             `json:"weights_size"` // bytes
	WeightsHash  blob.Digest       `json:"weights_hash"`
	Files        int               `json:"files"`
	Manifest     blob.Digest       `json:"manifest"`
	Parent       uuid.UUID         `json:"parent,omitzero"`
	Children     []uuid.UUID       `json:"children"`
	Aliases      []string          `json:"aliases"`
	RegisteredAt string            `json:"registered_at"`
	RegisteredBy string            `json:"registered_by,omitzero"`
	UpdatedAt    string            `json:"updated_at"`
	Metadata     registry.Metadata `json:"metadata"`
	Origin       *registry.Origin  `json:"origin,omitempty"`
}

// toJSON returns m as it is printed.
func toJSON(m *registry.Model) modelJSON {
	return modelJSON{
		Ref:          m.Ref(),
		ID:           m.ID,
		Name:         m.Name,
		Version:      m.Version,
		Status:       m.Status,
		Description:  m.Description,
		WeightsSize:  m.WeightsSize,
		WeightsHash:  m.WeightsHash,
		Files:        m.Files,
		Manifest:     m.Manifest,
		Parent:       m.Parent,
		Children:     list(m.Children),
		Aliases:      list(m.Aliases),
		RegisteredAt: jsonTime(m.RegisteredAt),
		RegisteredBy: m.RegisteredBy,
		UpdatedAt:    jsonTime(m.UpdatedAt),
		Metadata:     m.Metadata,
		Origin:       m.Origin,
	}
}

// list returns s, or an empty list for nil: JSON output has [] and not null.
func list[T any](s []T) []T {
	if s == nil {
		return []T{}
	}
	return s
}

// jsonTime returns microseconds since 1970 as RFC 3339 in UTC.
func jsonTime(us int64) string {
	return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000000Z07:00")
}
