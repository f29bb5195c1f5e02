package blob

import (
	"bytes"
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/heftstore/heft/internal/durable"
)

// update makes golden files that are missing. It never replaces one: what an
// older release wrote is what every later one has to read.
var update = flag.Bool("update", false, "write the golden files that are missing")

// vector is a golden file, testdata/vectors/<name>.blob, with the plain content
// and the digest that b3sum gives for it.
type vector struct {
	name    string
	digest  string
	layout  string // as layout returns it
	make    Compression
	content func() []byte
}

// vectors are files of format version 1. The last one says that it is of version
// 2, which is no more than version 1 with more codecs.
var vectors = []vector{
	{"empty", "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262", "", Auto,
		func() []byte { return nil }},
	{"raw", "4c9bd68d7f0baa2e167cef98295eb1ec99a3ec8f0656b33dbae943b387f31d5d", "H0", None,
		func() []byte { return []byte("The quick brown fox jumps over the lazy dog.") }},
	{"constant-1", "488de202f73bd976de4e7048f4e1f39a776d86d582b7348ff53bf432b987fca8", "H1", Auto,
		func() []byte { return make([]byte, mib) }},
	{"constant-2", "e36afe95dbf0cd7a4acdb1a18c180f5fcaf63f4e1b0098f9acfd6a7a35ff20d1", "H1", Auto,
		func() []byte { return repeated("\x80\x3f", 1000) }},
	{"constant-4", "a2a74430c795482e7c36dbcb3d45e104830f8f00e7183f0f34f1afd470ce7632", "H1", Auto,
		func() []byte { return repeated("\x00\x00\x80\x3f", 4096) }},
	{"constant-8", "fbcf88ca7e5f5c49647d99775d95356ba2825f80157785c90574981dce1532d3", "H1", Auto,
		func() []byte { return repeated("8 bytes.", 800) }},
	{"zstd-fast", "5d002e8cb0b96e064d56b177041f2b5cb30389fca5fb874dcd414996cab03fdc", "H2", Auto,
		func() []byte { return lines(2000) }},
	{"zstd-default", "dbcfb96609eb6e2704522aa021f6da7912f994842b08c715ac32fed59aff2855", "H2", Zstd,
		func() []byte { return lines(4000) }},
	{"repeated", "c2bc8c86046bb4dfc18a3e5cce810029da84e534e682433da3810d9783858140", "H2RH0", Auto,
		func() []byte {
			return cat(repeated("weights\n", mib-8), []byte("another\n"), repeated("weights\n", mib-8), []byte("another\nend"))
		}},
	{"borrowed", "6ec0b37688d0fe3e0c4e55e3cbba7b434c7e8ad4c569fbe6a76718a4e9914e23", "BH1H0", Auto,
		func() []byte {
			return cat(repeated("weights\n", mib-8), []byte("another\n"), make([]byte, mib), []byte("mine"))
		}},
	{"newer", "a2ed03b8f0c897bc995b0cfa2c6ad60dc871635b98077ed108afc9e2755c9dcc", "H0", Auto,
		func() []byte { return []byte("from the future") }},
}

func vectorPath(name string) string {
	return filepath.Join("testdata", "vectors", name+".blob")
}

// loadVectors returns a store of all golden files.
func loadVectors(t *testing.T) (*Store, *durable.Mem) {
	t.Helper()
	if *update {
		makeVectors(t)
	}
	s, m := newMem(t, nil)
	for _, v := range slices.Concat(vectors, vectors2) {
		file, err := os.ReadFile(vectorPath(v.name))
		if err != nil {
			t.Fatal(err)
		}
		d, err := ParseDigest(v.digest)
		if err != nil {
			t.Fatal(err)
		}
		if err := m.Mkdir(blobDir(d)); err != nil && !errors.Is(err, fs.ErrExist) {
			t.Fatal(err)
		}
		saveFile(t, m, blobPath(d), file)
	}
	return s, m
}

func TestVectors(t *testing.T) {
	s, m := loadVectors(t)
	for i, v := range slices.Concat(vectors, vectors2) {
		t.Run(v.name, func(t *testing.T) {
			content := v.content()
			if got := refSum(content).String(); got != v.digest {
				t.Fatalf("the plain content has digest %s, not %s", got, v.digest)
			}
			wantBlob(t, s, content)
			got, version := layout(t, s, refSum(content)), byte(1)
			if i >= len(vectors)-1 {
				version = 2
			}
			if i >= len(vectors) {
				got += " " + depths(t, s, refSum(content))
				wantReach(t, s, refSum(content))
			}
			if got != v.layout {
				t.Errorf("layout %s, not %s", got, v.layout)
			}
			if file := loadFile(t, m, blobPath(refSum(content))); file[8] != version || file[10] != version {
				t.Errorf("versions % x", file[8:12])
			}
			if info := put(t, s, content); !info.Known {
				t.Error("put again: not known")
			}
		})
	}
	// Without its donor or base a blob can't be read, and says so.
	for _, pair := range [][2]string{{"borrowed", "repeated"}, {"delta-fp32", "planes-fp32"}, {"cast-fp16", "wide"}} {
		needs, donor := named(t, pair[0]), named(t, pair[1])
		if err := m.Remove(blobPath(Sum(donor.content()))); err != nil {
			t.Fatal(err)
		}
		wantCorrupt(t, s, needs.content(), Sum(donor.content()), "without the donor")
	}
}

func named(t *testing.T, name string) vector {
	t.Helper()
	for _, v := range slices.Concat(vectors, vectors2) {
		if v.name == name {
			return v
		}
	}
	t.Fatalf("no vector %s", name)
	return vector{}
}

// TestNewerVector reads a file that a later release might write: version 4,
// minimum reader version 4.
func TestNewerVector(t *testing.T) {
	if *update {
		s, m := newMem(t, nil)
		d := put(t, s, []byte("from the future")).Digest
		saveVector(t, "newer-4", newer(loadFile(t, m, blobPath(d))))
	}
	file, err := os.ReadFile(vectorPath("newer-4"))
	if err != nil {
		t.Fatal(err)
	}
	s, m := newMem(t, nil)
	d := put(t, s, []byte("from the future")).Digest
	saveFile(t, m, blobPath(d), file)
	err = s.Verify(t.Context(), d)
	if ne, ok := errors.AsType[*NewerError](err); !ok || ne.Found != 4 {
		t.Errorf("%v is not a NewerError for version 4", err)
	}
}

func makeVectors(t *testing.T) {
	h, k := hints{}, keyed{}
	made, m := newMem(t, nil)
	for _, v := range slices.Concat(vectors, vectors2) {
		opts := &Options{Compression: v.make}
		switch v.name {
		case "borrowed":
			h.learn(t, made, Sum(named(t, "repeated").content()))
			opts.Known = h.known
		case "cast-bf16", "cast-fp16":
			k.learn(t, made, Sum(named(t, "wide").content()))
			opts.Similar = k.similar
		}
		s := openMem(t, m, opts)
		var like []Digest
		if name := vectorLike[v.name]; name != "" {
			like = append(like, Sum(named(t, name).content()))
		}
		d := putLike(t, s, v.content(), like...).Digest
		saveVector(t, v.name, loadFile(t, m, blobPath(d)))
		if d.String() != v.digest {
			t.Errorf("%s: the digest in the table has to be %s", v.name, d)
		}
	}
}

func saveVector(t *testing.T, name string, data []byte) {
	t.Helper()
	f, err := os.OpenFile(vectorPath(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestVectorFolder finds golden files that no test reads.
func TestVectorFolder(t *testing.T) {
	entries, err := os.ReadDir(filepath.Join("testdata", "vectors"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"dropped.blob", "newer-4.blob"}
	for _, v := range slices.Concat(vectors, vectors2) {
		want = append(want, v.name+".blob")
	}
	slices.Sort(want)
	var got []string
	for _, e := range entries {
		got = append(got, e.Name())
	}
	if !slices.Equal(got, want) {
		t.Errorf("the folder has %v, the tests read %v", got, want)
	}
	if b, err := os.ReadFile(vectorPath("raw")); err != nil || !bytes.Contains(b, []byte("The quick brown fox")) {
		t.Errorf("the raw frame is not raw: %v", err)
	}
}
