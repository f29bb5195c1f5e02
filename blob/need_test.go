package blob

import (
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// readers returns the blobs whose files are read when the blob d is.
func readers(t *testing.T, s *Store, m *durable.Mem, d Digest) map[string]bool {
	t.Helper()
	names := map[string]bool{}
	m.Fail(func(op durable.Op) error {
		if op.Kind == durable.OpRead && strings.HasPrefix(op.Name, "blobs/") {
			names[op.Name] = true
		}
		return nil
	})
	defer m.Fail(nil)
	if _, err := readAll(t.Context(), s, d); err != nil {
		t.Fatal(err)
	}
	return names
}

// needed is what Writer.needed says of a stored blob, as the files are called.
func needed(t *testing.T, s *Store, d Digest) (map[string]bool, error) {
	t.Helper()
	w := s.Writer(t.Context())
	defer w.Close()
	f, err := s.openFile(d)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	ds, err := w.needed(f)
	names := map[string]bool{blobPath(d): true}
	for _, d := range ds {
		names[blobPath(d)] = true
	}
	return names, err
}

// TestNeeded compares what has to be durable with a blob with what reading it
// touches, for blobs of every kind.
func TestNeeded(t *testing.T) {
	t.Parallel()
	x := &life{t: t, rng: rand.New(rand.NewPCG(3, 21)), h: hints{}, k: keyed{}}
	s, m := newMem(t, &Options{Known: x.h.known, Similar: x.k.similar, Workers: 1})
	for i := range 24 {
		content := x.next()
		x.put(s, content)
		x.puts = append(x.puts, content)
		if i == 16 { // heal one
			d := Sum(x.puts[x.rng.IntN(len(x.puts))])
			flip(t, m, blobPath(d), format.HeaderSize, 1)
			for _, c := range x.puts {
				if s.Verify(t.Context(), Sum(c)) != nil {
					x.put(s, c)
				}
			}
		}
	}
	most := 0
	for _, c := range x.puts {
		got, err := needed(t, s, Sum(c))
		want := readers(t, s, m, Sum(c))
		if err != nil || !maps.Equal(got, want) {
			t.Errorf("%s needs %v, not %v: %v", Sum(c).Short(), slices.Sorted(maps.Keys(want)), slices.Sorted(maps.Keys(got)), err)
		}
		info, err := s.Stat(t.Context(), Sum(c))
		if err != nil {
			t.Fatal(err)
		}
		most = max(most, len(want)-1-len(info.Donors))
	}
	if most < 2 {
		t.Errorf("at most %d blobs are needed that are no donors", most)
	}
}

// TestNeededOfLies gives blobs whose tables lead to frames that are not there, or
// round in a circle.
func TestNeededOfLies(t *testing.T) {
	s, m := newMem(t, nil)
	chain := chain()
	put(t, s, chain[0])
	for i, c := range chain[1:] {
		putLike(t, s, c, Sum(chain[i]))
	}
	ds := make([]Digest, len(chain))
	for i, c := range chain {
		ds[i] = Sum(c)
	}
	for _, c := range []struct {
		name   string
		want   string
		in     Digest
		change func(*format.Table)
	}{
		{"no such frame", "there is no frame 1000", ds[1], func(t *format.Table) { t.Rows[1].BaseFrame = 1000 }},
		{"a circle", "one blob too many", ds[1], func(t *format.Table) { t.Donors[0] = ds[3] }},
		{"borrowed in turn", "frame 1 is borrowed in turn", ds[2], func(t *format.Table) {
			t.Rows[1] = format.Row{Sum: t.Rows[1].Sum, PlainLen: t.Rows[1].PlainLen, Place: format.Borrowed, Frame: 1}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			file := loadFile(t, m, blobPath(c.in))
			rewrite(t, m, c.in, func(tab *format.Table, f *format.Footer) {
				before := tab.Rows[1].StoredLen
				c.change(tab)
				if tab.Rows[1].StoredLen != before { // its bytes are behind the first row's
					f.TableOffset -= uint64(before)
				}
			})
			if _, err := needed(t, s, ds[3]); !damage(err) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v is not damage that says %q", err, c.want)
			}
			saveFile(t, m, blobPath(c.in), file)
		})
	}
}
