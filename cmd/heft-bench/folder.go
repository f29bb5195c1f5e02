package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/dustin/go-humanize"
	"github.com/heftstore/heft/blob"
	"github.com/klauspost/compress/zstd"
)

// Sizes of real files: each alone, each after each other one of its folder, and
// safetensors files after they were changed as people change them.

// maxPairs bounds the files of one folder and kind that are compared.
const maxPairs = 4

// folder reports on every file below root.
func (b *bench) folder(ctx context.Context, root string) error {
	groups := map[string][]string{} // by folder and ending
	var alone []string
	err := walkFiles(os.DirFS(root), func(name string, size int64) error {
		file := filepath.Join(root, filepath.FromSlash(name))
		cells := []string{name, humanize.IBytes(uint64(size))}
		for _, c := range []blob.Compression{blob.None, blob.Auto, blob.Zstd} {
			stored, err := b.storedSize(ctx, c, file)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			cells = append(cells, percent(stored, size))
		}
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		bits, err := bound(content, nil)
		if err != nil {
			return err
		}
		best := zstdBest(content)
		alone = append(alone, strings.Join(append(cells, percent(int64(bits/8), size), percent(best, size)), "\t")+"\t")
		key := path.Dir(name) + path.Ext(name)
		groups[key] = append(groups[key], name)
		return nil
	})
	if err != nil {
		return err
	}
	if err := b.table("Stored size, each file alone: "+root, "file\tsize\tnone\tauto\tzstd\torder-0 bound\tzstd best, whole\t", alone); err != nil {
		return err
	}
	var after, changed []string
	for _, key := range slices.Sorted(maps.Keys(groups)) {
		names := groups[key]
		for _, name := range names {
			file := filepath.Join(root, filepath.FromSlash(name))
			for _, first := range names {
				if first == name || len(names) > maxPairs {
					continue
				}
				row, err := b.pair(ctx, file, filepath.Join(root, filepath.FromSlash(first)))
				if err != nil {
					return fmt.Errorf("%s after %s: %w", name, first, err)
				}
				after = append(after, name+"\t"+path.Base(first)+"\t"+row)
			}
			rows, err := b.variants(ctx, file)
			if err != nil {
				return fmt.Errorf("%s: %w", name, err)
			}
			for _, row := range rows {
				changed = append(changed, name+"\t"+row)
			}
		}
	}
	if err := b.table("Stored size after an earlier file, which is in the store as its parent", "file\tafter\tauto\torder-0 bound\tXOR + zstd\talone\t", after); err != nil {
		return err
	}
	return b.table("What a changed file takes on top of the first", "file\tchange\ton top\t", changed)
}

func percent(part, whole int64) string {
	return fmt.Sprintf("%.2f%%", 100*float64(part)/float64(max(whole, 1)))
}

// storedSize puts files one after the other into a new store, each as a later
// state of the one before, and returns what the last one takes.
func (b *bench) storedSize(ctx context.Context, c blob.Compression, files ...string) (int64, error) {
	var contents [][]byte
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			return 0, err
		}
		contents = append(contents, content)
	}
	return storedBytes(ctx, c, contents...)
}

// storedBytes puts contents as storedSize does files, and returns what all but
// the first take, or the only one.
func storedBytes(ctx context.Context, c blob.Compression, contents ...[]byte) (stored int64, err error) {
	dir := map[blob.Digest]blob.FrameRef{}
	s, err := blob.NewMemory(&blob.Options{Compression: c, Known: func(_ context.Context, d blob.Digest) (blob.FrameRef, bool) {
		ref, ok := dir[d]
		return ref, ok
	}})
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	var like []blob.Digest
	for i, content := range contents {
		batch := s.Batch()
		info, err := batch.PutLike(ctx, bytes.NewReader(content), like)
		if err == nil {
			err = batch.Sync(ctx)
		}
		if err != nil {
			return 0, err
		}
		if (i > 0 || len(contents) == 1) && !info.Known {
			stored += info.Stored
		}
		_, frames, err := s.Frames(ctx, info.Digest)
		if err != nil {
			return 0, err
		}
		for n, f := range frames {
			if f.Held {
				dir[f.Digest] = blob.FrameRef{Blob: info.Digest, Frame: uint32(n)}
			}
		}
		like = []blob.Digest{info.Digest}
	}
	return stored, nil
}

// pair reports what file takes after first.
func (b *bench) pair(ctx context.Context, file, first string) (string, error) {
	stored, err := b.storedSize(ctx, blob.Auto, first, file)
	if err != nil {
		return "", err
	}
	alone, err := b.storedSize(ctx, blob.Auto, file)
	if err != nil {
		return "", err
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	base, err := os.ReadFile(first)
	if err != nil {
		return "", err
	}
	bits, err := bound(content, base)
	if err != nil {
		return "", err
	}
	size := int64(len(content))
	xored := bytes.Clone(content)
	for i := range min(len(xored), len(base)) {
		xored[len(xored)-1-i] ^= base[len(base)-1-i] // the ends: headers differ in length
	}
	return strings.Join([]string{percent(stored, size), percent(int64(bits/8), size), percent(zstdLiterals(xored), size), percent(alone, size)}, "\t") + "\t", nil
}

func zstdBest(b []byte) int64 {
	return zstdSize(b, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
}

func zstdLiterals(b []byte) int64 { return zstdSize(b, zstd.WithAllLitEntropyCompression(true)) }

func zstdSize(b []byte, opts ...zstd.EOption) int64 {
	w, err := zstd.NewWriter(nil, opts...)
	if err != nil {
		panic(err) // the options are constants
	}
	defer w.Close()
	return int64(len(w.EncodeAll(b, nil)))
}

// model is a safetensors file, apart.
type model struct {
	names []string
	heads map[string]tensorHead
	data  map[string][]byte
}

type tensorHead struct {
	DType   string   `json:"dtype"`
	Shape   []int64  `json:"shape"`
	Offsets [2]int64 `json:"data_offsets"`
}

// parseModel reads a well-formed safetensors file; ok is false for others.
func parseModel(b []byte) (m model, ok bool) {
	if len(b) < 8 {
		return m, false
	}
	n := binary.LittleEndian.Uint64(b)
	if n > uint64(len(b)-8) {
		return m, false
	}
	var all map[string]json.RawMessage
	if json.Unmarshal(b[8:8+n], &all) != nil {
		return m, false
	}
	m.heads, m.data = map[string]tensorHead{}, map[string][]byte{}
	for name, raw := range all {
		var h tensorHead
		if name == "__metadata__" {
			continue
		}
		if json.Unmarshal(raw, &h) != nil || h.Offsets[0] > h.Offsets[1] || uint64(h.Offsets[1]) > uint64(len(b))-8-n {
			return m, false
		}
		m.names = append(m.names, name)
		m.heads[name], m.data[name] = h, b[8+n:][h.Offsets[0]:h.Offsets[1]]
	}
	slices.SortFunc(m.names, func(a, b string) int { return int(m.heads[a].Offsets[0] - m.heads[b].Offsets[0]) })
	return m, len(m.names) > 0
}

// bytes writes the tensors with these names as a file.
func (m *model) bytes(names []string) []byte {
	heads, at := map[string]tensorHead{}, int64(0)
	var data []byte
	for _, name := range names {
		h := m.heads[name]
		h.Offsets = [2]int64{at, at + int64(len(m.data[name]))}
		at = h.Offsets[1]
		heads[name] = h
		data = append(data, m.data[name]...)
	}
	header, err := json.Marshal(heads)
	if err != nil {
		panic(err) // strings and numbers
	}
	for len(header)%8 != 0 {
		header = append(header, ' ')
	}
	return slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(header))), header, data)
}

// variants reports what a safetensors file takes, after it is in the store, when
// it was changed without training.
func (b *bench) variants(ctx context.Context, file string) (rows []string, err error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	m, ok := parseModel(content)
	if !ok {
		return nil, nil
	}
	reversed := slices.Clone(m.names)
	slices.Reverse(reversed)
	half := len(m.names) / 2
	for _, c := range []struct {
		name  string
		files [][]byte
	}{
		{"reordered", [][]byte{m.bytes(reversed)}},
		{"resharded", [][]byte{m.bytes(m.names[:half]), m.bytes(m.names[half:])}},
		{"a key renamed", [][]byte{m.renamed().bytes(m.renamed().names)}},
		{"64 rows appended", [][]byte{m.extended(64).bytes(m.names)}},
	} {
		stored, err := storedBytes(ctx, blob.Auto, append([][]byte{content}, c.files...)...)
		if err != nil {
			return nil, err
		}
		rows = append(rows, c.name+"\t"+percent(stored, int64(len(content)))+"\t")
	}
	return rows, nil
}

// renamed returns m with another name for its first tensor.
func (m *model) renamed() *model {
	first := m.names[0]
	n := &model{names: slices.Clone(m.names), heads: maps.Clone(m.heads), data: maps.Clone(m.data)}
	n.names[0] = "renamed." + first
	n.heads[n.names[0]], n.data[n.names[0]] = n.heads[first], n.data[first]
	return n
}

// extended returns m with rows more in its largest matrix, copies of its first.
func (m *model) extended(rows int64) *model {
	n := &model{names: m.names, heads: maps.Clone(m.heads), data: maps.Clone(m.data)}
	most := ""
	for _, name := range m.names {
		if len(m.heads[name].Shape) == 2 && len(m.data[name]) > len(m.data[most]) {
			most = name
		}
	}
	if most == "" || m.heads[most].Shape[0] == 0 {
		return n
	}
	h := m.heads[most]
	row := int64(len(m.data[most])) / h.Shape[0]
	h.Shape = []int64{h.Shape[0] + rows, h.Shape[1]}
	n.heads[most] = h
	width := row / max(h.Shape[1], 1)
	values := int64(len(m.data[most])) / width
	n.data[most] = slices.Clone(m.data[most])
	for i := range rows * h.Shape[1] { // rows that are like none that is there
		at := i * 7919 % values * width
		n.data[most] = append(n.data[most], m.data[most][at:at+width]...)
	}
	return n
}
