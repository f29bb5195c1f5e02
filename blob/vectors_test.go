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
)

// update makes golden files that are missing. It never replaces one: what an
// older release wrote is what every later one has to read.
var update = flag.Bool("update", false, "write the golden files that are missing")

// vectors are files of format version 1: testdata/vectors/<name>.blob, each
// with the plain content and the digest that b3sum gives for it.
var vectors = []struct {
	name    string
	digest  string
	layout  string // as layout returns it
	make    Compression
	content func() []byte
}{
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
}

func vectorPath(name string) string {
	return filepath.Join("testdata", "vectors", name+".blob")
}

func TestVectors(t *testing.T) {
	if *update {
		makeVectors(t)
	}
	s, m := newMem(t, nil)
	for _, v := range vectors {
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
	for _, v := range vectors {
		t.Run(v.name, func(t *testing.T) {
			content := v.content()
			if got := refSum(content).String(); got != v.digest {
				t.Fatalf("the plain content has digest %s, not %s", got, v.digest)
			}
			wantBlob(t, s, content)
			if got := layout(t, s, refSum(content)); got != v.layout {
				t.Errorf("layout %s, not %s", got, v.layout)
			}
			if info := put(t, s, content); !info.Known {
				t.Error("put again: not known")
			}
		})
	}
	// Without its donor the borrower can't be read, and says so.
	borrower, donor := vectors[len(vectors)-1], vectors[len(vectors)-2]
	if err := m.Remove(blobPath(Sum(donor.content()))); err != nil {
		t.Fatal(err)
	}
	wantCorrupt(t, s, borrower.content(), Sum(donor.content()), "without the donor")
}

// TestNewerVector reads a file that a later release might write: version 2,
// minimum reader version 2.
func TestNewerVector(t *testing.T) {
	if *update {
		s, m := newMem(t, nil)
		d := put(t, s, []byte("from the future")).Digest
		saveVector(t, "newer", newer(loadFile(t, m, blobPath(d))))
	}
	file, err := os.ReadFile(vectorPath("newer"))
	if err != nil {
		t.Fatal(err)
	}
	s, m := newMem(t, nil)
	d := put(t, s, []byte("from the future")).Digest
	saveFile(t, m, blobPath(d), file)
	err = s.Verify(t.Context(), d)
	if ne, ok := errors.AsType[*NewerError](err); !ok || ne.Found != 2 {
		t.Errorf("%v is not a NewerError for version 2", err)
	}
}

func makeVectors(t *testing.T) {
	h := hints{}
	made, m := newMem(t, nil)
	for i, v := range vectors {
		opts := &Options{Compression: v.make}
		if v.name == "borrowed" {
			h.learn(t, made, Sum(vectors[i-1].content()))
			opts.Known = h.known
		}
		s := openMem(t, m, opts)
		d := put(t, s, v.content()).Digest
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
	want := []string{"newer.blob"}
	for _, v := range vectors {
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
