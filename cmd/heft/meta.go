package main

import (
	"encoding/json"
	"strconv"
	"strings"

	"github.com/heftstore/heft/registry"
)

// newModel returns the version that the target and the flags of put describe.
func newModel(target string, f putFlags) (registry.Model, error) {
	name, version, ok := strings.Cut(target, ":")
	if ok && version == "" {
		return registry.Model{}, usageError("%q has no version after the colon", target)
	}
	m := registry.Model{Name: name, Version: version, Description: f.description}
	if f.status != "" {
		s, err := registry.ParseStatus(f.status)
		if err != nil {
			return m, err
		}
		m.Status = s
	}
	var err error
	m.Metadata, err = parseMeta(f.meta)
	m.Metadata.Tags = f.tags
	return m, err
}

// parseMeta reads the KEY=VALUE pairs of --meta. A key that stands twice is an
// error: one of the two values would be lost.
func parseMeta(pairs []string) (registry.Metadata, error) {
	var m registry.Metadata
	extra := map[string]json.RawMessage{}
	seen := map[string]bool{}
	for _, pair := range pairs {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return m, usageError("--meta %s: it has to be KEY=VALUE", pair)
		}
		switch key {
		case "val_acc":
			key = "validation_accuracy"
		case "test_acc":
			key = "test_accuracy"
		}
		if seen[key] {
			return m, usageError("--meta %s: %s is given twice", pair, key)
		}
		seen[key] = true
		known, err := setKnown(&m, key, value)
		if err != nil {
			return m, usageError("--meta %s: %v", pair, err)
		}
		if !known {
			extra[key] = jsonOrText(value)
		}
	}
	if len(extra) > 0 {
		// Valid JSON values in a map always marshal.
		raw, err := json.Marshal(extra)
		if err != nil {
			return m, usageError("--meta: %v", err)
		}
		m.Extra = raw
	}
	return m, nil
}

// setKnown sets the field of m that the key names, and reports whether there
// is one.
func setKnown(m *registry.Metadata, key, value string) (known bool, err error) {
	switch key {
	case "architecture":
		m.Architecture = value
	case "config_hash":
		m.ConfigHash = value
	case "dataset_id":
		m.DatasetID = value
	case "parameter_count":
		m.ParameterCount, err = parseCount(value)
	case "training_examples":
		m.TrainingExamples, err = parseCount(value)
	case "validation_accuracy":
		m.ValidationAccuracy, err = parseFloat(value)
	case "test_accuracy":
		m.TestAccuracy, err = parseFloat(value)
	case "input_dimensions":
		m.InputDimensions, err = parseDimensions(value)
	case "output_dimensions":
		m.OutputDimensions, err = parseDimensions(value)
	default:
		metric, ok := strings.CutPrefix(key, "metric.")
		if !ok {
			return false, nil
		}
		v, err := parseFloat(value)
		if err != nil || metric == "" {
			return true, usageError("a metric is metric.NAME=NUMBER")
		}
		if m.TrainingMetrics == nil {
			m.TrainingMetrics = map[string]float64{}
		}
		m.TrainingMetrics[metric] = *v
	}
	return true, err
}

func parseCount(s string) (int64, error) {
	n, err := strconv.ParseInt(strings.ReplaceAll(s, "_", ""), 10, 64)
	if err != nil || n < 0 {
		return 0, usageError("%q is no whole number from 0 up", s)
	}
	return n, nil
}

func parseFloat(s string) (*float64, error) {
	v, err := strconv.ParseFloat(s, 64)
	if err != nil || v-v != 0 { // infinite or not a number: JSON has neither
		return nil, usageError("%q is no finite number", s)
	}
	return &v, nil
}

func parseDimensions(s string) ([]int64, error) {
	var dims []int64
	for part := range strings.SplitSeq(s, ",") {
		n, err := strconv.ParseInt(strings.TrimSpace(part), 10, 64)
		if err != nil {
			return nil, usageError("%q are no dimensions such as 1,224,224", s)
		}
		dims = append(dims, n)
	}
	return dims, nil
}

// jsonOrText returns s when it is one JSON value, else s as a JSON string.
func jsonOrText(s string) json.RawMessage {
	if json.Valid([]byte(s)) {
		return json.RawMessage(s)
	}
	b, err := json.Marshal(s)
	if err != nil { // not possible for a string
		return nil
	}
	return b
}
