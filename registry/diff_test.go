package registry

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"io/fs"
	"math"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/heftstore/heft/blob"
	"pgregory.net/rapid"
)

// line is a change as a test states it.
func line(c TensorChange) string {
	where := func(t *Tensor) string {
		if t == nil {
			return "-"
		}
		return strings.TrimSuffix(t.Path+"#"+t.Name, "#")
	}
	s := string(c.State) + " " + where(c.A)
	if c.B != nil && where(c.A) != where(c.B) {
		s += " " + where(c.B)
	}
	if c.Compared > 0 {
		s += fmt.Sprintf(": %d of %d %s", c.Different, c.Compared, c.Unit)
	}
	if c.Largest != nil {
		s += fmt.Sprintf(", at most %g", *c.Largest)
	}
	if c.NonFinite > 0 {
		s += fmt.Sprintf(", %d not finite", c.NonFinite)
	}
	return s
}

func diffLines(t testing.TB, r *Registry, a, b string) []string {
	t.Helper()
	var lines []string
	for _, c := range all(t, r.Diff(t.Context(), a, b)) {
		lines = append(lines, line(c))
	}
	return lines
}

func TestDiff(t *testing.T) {
	nan := float32(math.NaN())
	big, tuned := weights(1, 3<<20), weights(1, 3<<20)
	tuned[1<<20], tuned[2<<20] = tuned[1<<20]^1, tuned[2<<20]^1
	one := func(tensors ...arrayOf) map[string][]byte {
		return map[string][]byte{"w.safetensors": safetensors("", tensors...)}
	}
	w, v := vector("w", "F32", f32(1, 2, 3, 4)), vector("v", "F32", f32(5, 6))
	empty := vector("none", "F32", nil)
	shards := func(order ...uint64) map[string][]byte { // more than are kept open
		files := map[string][]byte{}
		for i, n := range order {
			files[fmt.Sprint(i)] = safetensors("", vector(fmt.Sprintf("w%d", n), "U8", weights(n, 100)))
		}
		return files
	}
	for _, tt := range []struct {
		name string
		a, b map[string][]byte
		want []string
	}{
		{"same", one(w, v, empty), one(w, v, empty), []string{"same w.safetensors#w", "same w.safetensors#v", "same w.safetensors#none"}},
		{"another order", one(w, v), one(v, w), []string{"same w.safetensors#w", "same w.safetensors#v", "changed w.safetensors"}},
		{"another header", one(w), map[string][]byte{"w.safetensors": safetensors("x", w)}, []string{"same w.safetensors#w", "changed w.safetensors"}},
		{"changed", one(w, v), one(vector("w", "F32", f32(1, 2.5, 3, nan)), v),
			[]string{"changed w.safetensors#w: 2 of 4 elements, at most 0.5, 1 not finite", "same w.safetensors#v"}},
		{"NaN stays", one(vector("w", "F32", f32(nan, 1))), one(vector("w", "F32", f32(nan, 2))),
			[]string{"changed w.safetensors#w: 1 of 2 elements, at most 1"}},
		{"only to NaN", one(vector("w", "F32", f32(nan))), one(vector("w", "F32", f32(2))),
			[]string{"changed w.safetensors#w: 1 of 1 elements, 1 not finite"}},
		{"large", one(vector("w", "U8", big)), one(vector("w", "U8", tuned)),
			[]string{"changed w.safetensors#w: 2 of 3145728 elements, at most 1"}},
		{"dtype", one(w), one(vector("w", "I32", f32(1, 2, 3, 4))), []string{"reshaped w.safetensors#w"}},
		{"shape", one(w), one(arrayOf{"w", "F32", []uint64{2, 2}, w.data}), []string{"reshaped w.safetensors#w"}},
		{"longer", one(w), one(vector("w", "F32", f32(1, 2, 3, 4, 5))), []string{"reshaped w.safetensors#w"}},
		{"emptied", one(v), one(arrayOf{"v", "F32", []uint64{0}, nil}), []string{"reshaped w.safetensors#v"}},
		{"added and removed", one(w), one(v), []string{"removed w.safetensors#w", "added - w.safetensors#v"}},
		{"renamed", one(w, v), one(vector("model.w", "F32", w.data), v),
			[]string{"same w.safetensors#v", "renamed w.safetensors#w w.safetensors#model.w"}},
		{"renamed, empty", one(empty), one(vector("nothing", "F32", nil)), []string{"renamed w.safetensors#none w.safetensors#nothing"}},
		{"renamed and changed", one(w), one(vector("x", "F32", f32(1, 2, 3, 5))), []string{"removed w.safetensors#w", "added - w.safetensors#x"}},
		{"renamed, by how names end", one(vector("0.a", "U8", big), vector("1.a", "U8", big)), one(vector("m.1.a", "U8", big), vector("m.0.a", "U8", big)),
			[]string{"renamed w.safetensors#0.a w.safetensors#m.0.a", "renamed w.safetensors#1.a w.safetensors#m.1.a"}},
		{"one renamed of two alike", one(vector("0.a", "U8", big)), one(vector("m.1.a", "U8", big), vector("m.0.a", "U8", tuned)),
			[]string{"renamed w.safetensors#0.a w.safetensors#m.1.a", "added - w.safetensors#m.0.a"}},
		{"resharded", one(w, v, empty), map[string][]byte{"1.safetensors": safetensors("", v), "2.safetensors": safetensors("", empty, w)},
			[]string{"same w.safetensors#w 2.safetensors#w", "same w.safetensors#v 1.safetensors#v", "same w.safetensors#none 2.safetensors#none"}},
		{"shards in another order", shards(0, 1, 2, 3, 4, 5), shards(5, 4, 3, 2, 1, 0),
			[]string{"same 0#w0 5#w0", "same 1#w1 4#w1", "same 2#w2 3#w2", "same 3#w3 2#w3", "same 4#w4 1#w4", "same 5#w5 0#w5"}},
		{"quantised", map[string][]byte{"q.gguf": ggufQ8("w", weights(1, 3*34))}, map[string][]byte{"q.gguf": ggufQ8("w", append(weights(1, 3*34-1), 0))},
			[]string{"changed q.gguf#w: 1 of 3 blocks"}},
		{"a name in several files", map[string][]byte{"1": safetensors("", w), "2": safetensors("", vector("w", "F32", f32(0)))},
			map[string][]byte{"3": safetensors("", w), "2": safetensors("", vector("w", "F32", f32(0)))},
			[]string{"same 2#w", "same 1#w 3#w"}},
		{"a name in too many files", map[string][]byte{"1": safetensors("", w), "2": safetensors("", vector("w", "F32", f32(0)))},
			map[string][]byte{"3": safetensors("", w)},
			[]string{"renamed 1#w 3#w", "removed 2#w"}},
		{"files", map[string][]byte{"a": []byte("a"), "b": []byte("b"), "c": []byte("c"), "e": nil}, map[string][]byte{"a": []byte("a"), "b": []byte("B"), "d": []byte("d"), "e": nil},
			[]string{"same a", "changed b", "same e", "removed c", "added - d"}},
		{"a file moved", map[string][]byte{"a/x": []byte("text")}, map[string][]byte{"b/x": []byte("text")}, []string{"renamed a/x b/x"}},
		{"structure lost", one(w), map[string][]byte{"w.safetensors": []byte("text")}, []string{"removed w.safetensors#w", "added - w.safetensors"}},
		{"npy", map[string][]byte{"x.npy": npy("(2, )", f32(1, 2))}, map[string][]byte{"x.npy": npy("(2, )", f32(1, 4))},
			[]string{"changed x.npy: 1 of 2 elements, at most 2"}},
		{"nothing", nil, nil, nil},
		{"unknown dtype", one(arrayOf{"w", "F9", []uint64{3}, []byte{1, 2, 3}}), one(arrayOf{"w", "F9", []uint64{3}, []byte{1, 2, 4}}),
			[]string{"changed w.safetensors#w: 1 of 3 bytes"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRegistry(t)
			addFiles(t, r, "m:1", tt.a)
			addFiles(t, r, "m:2", tt.b)
			got := diffLines(t, r, "m:1", "m:2")
			if tt.name == "a name in several files" {
				slices.Sort(got)
				slices.Sort(tt.want)
			}
			same(t, "diff", got, tt.want)
			for _, c := range all(t, r.Diff(t.Context(), "m:2", "m:2")) {
				if c.State != TensorSame {
					t.Errorf("compared with itself: %s", line(c))
				}
			}
		})
	}
}

func TestDiffNotFound(t *testing.T) {
	r := newRegistry(t)
	add(t, r, "m:1")
	wantErr(t, "a", failure(r.Diff(t.Context(), "m:9", "m:1")), ErrNotFound)
	wantErr(t, "b", failure(r.Diff(t.Context(), "m:1", "m:9")), ErrNotFound)
	wantErr(t, "a name", failure(r.Diff(t.Context(), "m:", "m:1")), fs.ErrInvalid)
}

// A loop may end early, at every place.
func TestDiffBreak(t *testing.T) {
	r := newRegistry(t)
	w, v := vector("w", "F32", f32(1)), vector("v", "F32", f32(2))
	addFiles(t, r, "m:1", map[string][]byte{"a": safetensors("", w, v, vector("old", "F32", f32(7)), vector("gone", "F32", f32(8)))})
	addFiles(t, r, "m:2", map[string][]byte{"a": safetensors("", v, w, vector("new", "F32", f32(7)), vector("more", "F32", f32(9)))})
	total := len(diffLines(t, r, "m:1", "m:2"))
	for n := range total {
		for _, err := range r.Diff(t.Context(), "m:1", "m:2") {
			must(t, err)
			if n--; n < 0 {
				break
			}
		}
	}
}

// What frames tell is not read: it may even be damaged.
func TestDiffReadsOnlyWhatDiffers(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	a := weights(1, 6<<20)
	b := bytes.Clone(a)
	b[5<<20] ^= 1
	one := safetensors("", vector("w", "U8", a), vector("v", "U8", weights(2, 2<<20)))
	two := safetensors("", vector("w", "U8", b), vector("v", "U8", weights(2, 2<<20)))
	addFiles(t, r, "m:1", map[string][]byte{"w": one})
	addFiles(t, r, "m:2", map[string][]byte{"w": two})

	d := &differ{a: &side{reg: r}, b: &side{reg: r}}
	defer d.a.close()
	defer d.b.close()
	as, err := d.a.load(ctx, "m:1")
	must(t, err)
	bs, err := d.b.load(ctx, "m:2")
	must(t, err)
	for i, limit := range []int64{2 << 20, 2 << 20} {
		p, err := d.pair(ctx, as[i], bs[i])
		must(t, err)
		read := int64(0)
		for _, s := range p.unequal(1) {
			read += s.to - s.from
		}
		if read > limit {
			t.Errorf("%s: %d bytes would be read", as[i].Name, read)
		}
	}
	damageFrame(t, r, blob.Sum(one), 3<<20)
	same(t, "diff", diffLines(t, r, "m:1", "m:2"), []string{"changed w#w: 1 of 6291456 elements, at most 1", "same w#v"})
}

func TestDiffDamaged(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	file := func(seed uint64) []byte {
		return safetensors("", vector("a", "U8", weights(9, 1<<20)), vector("b", "U8", weights(seed, 3<<20)))
	}
	one, two := file(1), file(2)
	addFiles(t, r, "m:1", map[string][]byte{"w": one})
	addFiles(t, r, "m:2", map[string][]byte{"w": two})
	addFiles(t, r, "m:3", map[string][]byte{"w": safetensors("", vector("x.b", "U8", weights(1, 3<<20)))})
	for _, tt := range []struct {
		d    blob.Digest
		size int
		a, b string
		ref  string
	}{
		{blob.Sum(two), len(two), "m:1", "m:2", "m:2"},
		{blob.Sum(two), len(two), "m:2", "m:1", "m:2"},
	} {
		damageFrame(t, r, tt.d, int64(tt.size))
		n := 0
		var last error
		for c, err := range r.Diff(ctx, tt.a, tt.b) {
			n++
			if last = err; err == nil && line(c) != "same w#a" {
				t.Errorf("yielded %s", line(c))
			}
		}
		if n != 2 {
			t.Errorf("%d changes", n)
		}
		wantCorrupt(t, "Diff", last, tt.ref, "w")
		damageFrame(t, r, tt.d, int64(tt.size)) // undamaged again
	}
	flip(t, r, blob.Sum(one))
	wantCorrupt(t, "the header", failure(r.Diff(ctx, "m:1", "m:2")), "m:1", "w")
	must(t, os.Remove(blobFile(r, blob.Sum(two))))
	wantCorrupt(t, "missing", failure(r.Diff(ctx, "m:3", "m:2")), "m:2", "w")
	wantErr(t, "cancelled", failure(r.Diff(expired(), "m:3", "m:3")), context.Canceled)
}

func expired() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// A cancelled Diff says so, wherever it was.
func TestDiffCancelled(t *testing.T) {
	r := newRegistry(t)
	for i := range uint64(2) {
		addFiles(t, r, fmt.Sprintf("m:%d", i), map[string][]byte{"w": safetensors("", vector("w", "U8", weights(i, 3<<20)), vector(fmt.Sprint(i), "U8", weights(7, 1000)))})
	}
	for n := range int64(1000) {
		ctx, cancel := context.WithCancelCause(t.Context())
		stop := fmt.Errorf("stopped at %d", n)
		c := &counted{Context: ctx, left: n, stop: func() { cancel(stop) }}
		err := failure(r.Diff(c, "m:0", "m:1"))
		cancel(nil)
		if err == nil {
			if n < 5 {
				t.Errorf("all was compared though the context ended after %d questions", n)
			}
			return
		}
		if !strings.Contains(err.Error(), stop.Error()) && !strings.Contains(err.Error(), context.Canceled.Error()) {
			t.Fatalf("cancelled at %d: %v", n, err)
		}
	}
	t.Error("Diff never came to an end")
}

// counted is cancelled once it was asked for its error so many times.
type counted struct {
	context.Context
	left int64
	stop func()
}

func (c *counted) Err() error {
	if c.left--; c.left < 0 {
		c.stop()
	}
	return c.Context.Err()
}

// Frames leave out nothing that differs, and all that they tell is equal.
func TestPairProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		width := rapid.SampledFrom([]int64{1, 2, 3, 8}).Draw(t, "width")
		size := rapid.Int64Range(0, 20).Draw(t, "elements") * width
		content := func(label string) []byte { // of few values, so that frames are equal
			return rapid.SliceOfN(rapid.ByteRange(0, 1), int(size), int(size)).Draw(t, label)
		}
		a := content("a")
		b := a
		if rapid.Bool().Draw(t, "different") {
			b = content("b")
		}
		cutUp := func(label string, data []byte) (*framed, *array) {
			before := rapid.SliceOfN(rapid.ByteRange(0, 1), 0, 9).Draw(t, label+" before")
			whole := slices.Concat(before, data, []byte{2, 2, 2})
			f := &framed{}
			for at := 0; at < len(whole); {
				n := min(rapid.IntRange(1, 9).Draw(t, label+" frame"), len(whole)-at)
				f.starts = append(f.starts, int64(at))
				f.frames = append(f.frames, blob.Frame{Size: int64(n), Digest: blob.Sum(whole[at : at+n])})
				at += n
			}
			return f, &array{Tensor: Tensor{Offset: int64(len(before)), Size: size}}
		}
		p := &pair{}
		p.a, p.x = cutUp("a", a)
		p.b, p.y = cutUp("b", b)
		read := make([]bool, size)
		last := int64(0)
		for _, s := range p.unequal(width) {
			if s.from >= s.to || s.from < last || s.to > size || s.from%width != 0 || s.to%width != 0 {
				t.Fatalf("span %v after %d of %d", s, last, size)
			}
			for i := s.from; i < s.to; i++ {
				read[i] = true
			}
			last = s.to
		}
		for i := range read {
			if !read[i] && a[i] != b[i] {
				t.Fatalf("byte %d differs and is not read", i)
			}
		}
		// The same frames at the same place: nothing is read.
		p.b, p.y = p.a, p.x
		if s := p.unequal(width); len(s) > 0 {
			t.Fatalf("of equal frames %v are read", s)
		}
	})
}

// naive is Diff for a test: all in memory, in the plainest way, sorted.
func naive(a, b map[string][]arrayOf) []string {
	type entry struct {
		path string
		arrayOf
	}
	flat := func(files map[string][]arrayOf) (all []*entry) {
		for p, tensors := range files {
			for _, t := range tensors {
				all = append(all, &entry{p, t})
			}
		}
		slices.SortFunc(all, func(x, y *entry) int { return cmp.Or(cmp.Compare(x.path, y.path), cmp.Compare(x.name, y.name)) })
		return all
	}
	as, bs := flat(a), flat(b)
	match, back := map[*entry]*entry{}, map[*entry]*entry{}
	pairUp := func(x, y *entry) { match[x], back[y] = y, x }
	for _, x := range as {
		for _, y := range bs {
			if x.path == y.path && x.name == y.name {
				pairUp(x, y)
			}
		}
	}
	left := func(all []*entry, taken map[*entry]*entry, name string) (n []*entry) {
		for _, e := range all {
			if taken[e] == nil && e.name == name {
				n = append(n, e)
			}
		}
		return n
	}
	type couple struct{ x, y []*entry }
	var couples []couple
	for _, x := range as {
		if match[x] == nil {
			couples = append(couples, couple{left(as, match, x.name), left(bs, back, x.name)})
		}
	}
	for _, c := range couples {
		if len(c.x) == 1 && len(c.y) == 1 {
			pairUp(c.x[0], c.y[0])
		}
	}
	counts := map[string]int{}
	var lines []string
	same := func(x, y *entry) bool { return x.dtype == y.dtype && slices.Equal(x.shape, y.shape) }
	gone := map[string]int{} // content of what was removed
	for _, x := range as {
		y := match[x]
		switch {
		case y == nil:
			gone[fmt.Sprint(x.dtype, x.shape, x.data)]++
			counts["removed"]++
		case !same(x, y):
			lines = append(lines, "reshaped "+x.path+x.name)
		case bytes.Equal(x.data, y.data):
			lines = append(lines, "same "+x.path+x.name)
		default:
			n := 0
			for i := 0; i < len(x.data); i += 4 {
				if !bytes.Equal(x.data[i:i+4], y.data[i:i+4]) {
					n++
				}
			}
			lines = append(lines, fmt.Sprintf("changed %s%s %d", x.path, x.name, n))
		}
	}
	for _, y := range bs {
		if back[y] != nil {
			continue
		}
		if k := fmt.Sprint(y.dtype, y.shape, y.data); gone[k] > 0 {
			gone[k]--
			counts["removed"]--
			counts["renamed"]++
		} else {
			counts["added"]++
		}
	}
	for s, n := range counts {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%d %s", n, s))
		}
	}
	slices.Sort(lines)
	return lines
}

func TestDiffModel(t *testing.T) {
	r, err := CreateTemp(t.Context(), &Options{Exclusive: true, Now: clock()})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		version := func(label string) map[string][]arrayOf {
			files := map[string][]arrayOf{}
			for range rapid.IntRange(1, 8).Draw(t, label) {
				p := rapid.SampledFrom([]string{"1", "2", "3"}).Draw(t, "path")
				x := vector(rapid.StringMatching("[abcd]").Draw(t, "name"), "F32", f32(rapid.SliceOfN(rapid.Float32Range(0, 3), 0, 2).Draw(t, "data")...))
				x.dtype = rapid.SampledFrom([]string{"F32", "F32", "I32"}).Draw(t, "dtype")
				if !slices.ContainsFunc(files[p], func(y arrayOf) bool { return y.name == x.name }) {
					files[p] = append(files[p], x)
				}
			}
			return files
		}
		put := func(ref string, files map[string][]arrayOf) {
			content := map[string][]byte{}
			for p, tensors := range files {
				content[p] = safetensors("", tensors...)
			}
			_, err := putFiles(context.Background(), r, ofRef(ref), content)
			must(t, err)
		}
		a, b := version("a"), version("b")
		refA, refB := fmt.Sprintf("m%d:a", run), fmt.Sprintf("m%d:b", run)
		put(refA, a)
		put(refB, b)
		counts := map[TensorState]int{}
		var got []string
		for c, err := range r.Diff(context.Background(), refA, refB) {
			must(t, err)
			switch {
			case c.Tensor().Name == "": // of a file whose tensors are the same
			case c.State == TensorSame || c.State == TensorReshaped:
				got = append(got, string(c.State)+" "+c.A.Path+c.A.Name)
			case c.State == TensorChanged:
				got = append(got, fmt.Sprintf("changed %s%s %d", c.A.Path, c.A.Name, c.Different))
			default:
				counts[c.State]++
			}
		}
		for s, n := range counts {
			got = append(got, fmt.Sprintf("%d %s", n, s))
		}
		slices.Sort(got)
		same(t, "diff", got, naive(a, b))
	})
}
