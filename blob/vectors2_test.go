package blob

import (
	"encoding/binary"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/heftstore/heft/internal/format"
)

// integers are counts as a vocabulary or an index has them.
func integers(n int) []byte {
	rng := rand.New(rand.NewPCG(1, 20))
	b := make([]byte, 0, n)
	for len(b) < n {
		b = binary.LittleEndian.AppendUint32(b, uint32(rng.IntN(1<<12)))
	}
	return b
}

func smallWeights(dtype string) []byte { return normals(1, dtype, 8<<10) }

// tuned returns smallWeights after some steps that change all of them.
func tuned(dtype string, steps int) []byte {
	w := smallWeights(dtype)
	for i := range steps {
		w = trained(uint64(i), dtype, w, 1)
	}
	return w
}

func alone(name, dtype string, data func() []byte) func() []byte {
	return func() []byte { return safetensors(tensor{name, dtype, data()}) }
}

// wideWeights and longWeights have casts: the latter's first spans two frames.
func wideWeights() []byte { return coarse(1, 128<<10) }
func longWeights() []byte { return coarse(2, mib+mib/2) }

func withCast(dtype string, wide func() []byte, narrow func([]byte) []byte) func() []byte {
	return func() []byte {
		w := wide()
		return safetensors(tensor{"f", "F32", w}, tensor{"n", dtype, narrow(w)})
	}
}

func toBF16(w []byte) []byte { return narrowed("BF16", w) }
func toF16(w []byte) []byte  { return narrowed("F16", w) }

// vectors2 are files of format version 2, like vectors; behind the places and
// codecs the layout has the depths.
var vectors2 = []vector{
	{"planes-bf16", "daefb47d54f172ac27aa86534bc1f36c6141d57a2f8b9b8c4612d1d28d399f0a", "H2H3 00", Auto, alone("w", "BF16", func() []byte { return smallWeights("BF16") })},
	{"planes-fp16", "76664287e34d04a4bdff965d0eaffd7b16dd6fa4bdb21b239f8413dcd4042ec6", "H2H3 00", Auto, alone("w", "F16", func() []byte { return smallWeights("F16") })},
	{"planes-fp32", "610f72d3f2d2e3cdad0799e71e2a0623f8ada5c1f656c7099e5d44ee7b1846b9", "H2H3 00", Auto, alone("w", "F32", func() []byte { return smallWeights("F32") })},
	{"planes-fp64", "0c47fa181ec69adc8e22b25615c0aebac6d0393862d81ae9246d4fc0de00c9b1", "H2H3 00", Auto, alone("w", "F64", func() []byte { return smallWeights("F64") })},
	{"planes-int32", "509bbbc74579d59dc6e085e603e4d35ad7b9f334a3f2196258ef5835a587d54d", "H2H3 00", Auto, alone("w", "I32", func() []byte { return integers(66 << 10) })},
	{"planes-led", "22d7510d1032632d69d12fe94de02557b803138208379d78f8d404e93be981c5", "H3 0", Auto, func() []byte { return cat([]byte("odd"), normals(2, "BF16", 16<<10), []byte("!!")) }},

	{"delta-bf16", "87e4191a35309752c51b2dfb9acd703806622d35eca6bfa5069b0e6e9c71ea89", "BH4 01", Auto, alone("w", "BF16", func() []byte { return tuned("BF16", 1) })},
	{"delta-fp16", "f3773f5095e747beeec06077d6769bb64e449b6341002ea71f6b1c1dd3837544", "BH4 01", Auto, alone("w", "F16", func() []byte { return tuned("F16", 1) })},
	{"delta-fp32", "1fff4711dbd07edbfd4bc70a251c7239985a06791e90370006bd017a5dffcee8", "BH4 01", Auto, alone("w", "F32", func() []byte { return tuned("F32", 1) })},
	{"delta-fp64", "5e202390a3bc17f33aa78e07823ef26a9a736356c132ed333fb9efb5cb81bfde", "BH4 01", Auto, alone("w", "F64", func() []byte { return tuned("F64", 1) })},
	{"delta-depth-2", "6c6b3d0b828a6b14720c0bfafa313ebfa1ebc7da5b0b6e105cb59c18bec5651b", "BH4 02", Auto, alone("w", "BF16", func() []byte { return tuned("BF16", 2) })},
	{"delta-depth-3", "7219e71e0c622da67f17044b35b971b8b97d2340b8667a2db8b90b7b60502cdd", "BH4 03", Auto, alone("w", "BF16", func() []byte { return tuned("BF16", 3) })},
	{"delta-depth-4", "2333ac73ddd6d635b8886042430e8d87f4f089d220ca06017d857a4eacdd2ab9", "BH4 04", Auto, alone("w", "BF16", func() []byte { return tuned("BF16", 4) })},
	{"delta-led", "0baef073b760dafb442540d744386391137eeea22608e04748be881f804a1bae", "H4 1", Auto, func() []byte {
		return cat([]byte("odd"), trained(3, "BF16", normals(2, "BF16", 16<<10), 1), []byte("??"))
	}},
	{"quiet-bf16", "197c002fa3eda105fc6d1f1bddfb44b6079700e0b1cb69b46f2bb2fa9f7d7342", "BH4 01", Auto, alone("w", "BF16", func() []byte { return trained(1, "BF16", smallWeights("BF16"), 0.02) })},
	{"quiet-fp16", "29cab9218b8d3c991c451cb1b9070569ad20b015ce7c6ca6c15a5792df1261c3", "BH4 01", Auto, alone("w", "F16", func() []byte { return trained(1, "F16", smallWeights("F16"), 0.02) })},
	{"quiet-fp32", "6d8dcd820f8dd67e9e13c5731ea22b8e9e7b8e40eb132486c544b0739f89188d", "BH4 01", Auto, alone("w", "F32", func() []byte { return trained(1, "F32", smallWeights("F32"), 0.02) })},
	{"quiet-fp64", "3865fc19ad5c93a23bd0ca187623884951cfa2bcc2d26671965002c4817230c3", "BH4 01", Auto, alone("w", "F64", func() []byte { return trained(1, "F64", smallWeights("F64"), 0.02) })},

	{"wide", "32cae30306977875a146283552c5af2132339529b2e833398ee25daef6bd80e8", "H2H2 00", Auto, alone("f", "F32", wideWeights)},
	{"cast-bf16", "6f898ef1aa6cd10c2ef5264b94f62a35bc0316f25a29c28444384948e168799e", "H2H5 01", Auto, alone("n", "BF16", func() []byte { return toBF16(wideWeights()) })},
	{"cast-fp16", "6638e47c8bdf85ba8d210f542d6c3d62767d2b5fd779885362c145bb687134c4", "H2H5 01", Auto, alone("n", "F16", func() []byte { return toF16(wideWeights()) })},
	{"cast-own-bf16", "07b02c2aaef54cabe45a13197271e83df060163b9d5302431c295db089e7fd4c", "H2H2H5 001", Auto, withCast("BF16", func() []byte { return coarse(3, 128<<10) }, toBF16)},
	{"cast-own-fp16", "7b6c5a6d63f296219e8b875ea6776bd603b49ebe6ec1e1c9c918029e514fac7c", "H2H2H5 001", Auto, withCast("F16", func() []byte { return coarse(4, 128<<10) }, toF16)},
	{"cast-own-truncated", "14423b02bc5347cc336af382ec0126d08e9dd1f170be00bf281f7740ddc6435f", "H2H2H5 001", Auto, withCast("BF16", func() []byte { return trained(1, "F32", coarse(5, 128<<10), 0.02) }, truncated)},
	{"cast-of-two", "4b6aebb6139720fc62271debe603915f75ed0af2ae72409371e6e7de96a9c26f", "H2H2H2H5 0002", Auto, withCast("BF16", longWeights, toBF16)},

	{"repeated-2", "1fb9f0c081113adc163f862626317d1ed13e32a5c2b35c35f6126d2bf48ae59c", "H2H2R 000", Auto, func() []byte {
		w := coarse(6, 80<<10)
		return safetensors(tensor{"a", "F32", w}, tensor{"b", "F32", w})
	}},
	{"borrowed-2", "da7f84021342a05682db3444a5cebb9df4ed3a99137e6af9c369a4b6723b120b", "H2BH3 000", Auto, func() []byte { // a delta's frame, and one of its own
		return safetensors(tensor{"w", "BF16", tuned("BF16", 1)}, tensor{"x", "F32", normals(5, "F32", 8<<10)})
	}},
}

// vectorLike says which vector another one was put as like of.
var vectorLike = map[string]string{
	"delta-bf16": "planes-bf16", "delta-fp16": "planes-fp16", "delta-fp32": "planes-fp32", "delta-fp64": "planes-fp64",
	"delta-depth-2": "delta-bf16", "delta-depth-3": "delta-depth-2", "delta-depth-4": "delta-depth-3",
	"delta-led":  "planes-led",
	"quiet-bf16": "planes-bf16", "quiet-fp16": "planes-fp16", "quiet-fp32": "planes-fp32", "quiet-fp64": "planes-fp64",
	"borrowed-2": "delta-bf16",
}

// TestVectorSketches compares the keys in golden files with those that this
// release writes: if they differ, it finds no relatives in older files.
func TestVectorSketches(t *testing.T) {
	s, _ := loadVectors(t)
	count := 0
	for _, v := range vectors2 {
		fresh, _ := newMem(t, nil)
		d := put(t, fresh, v.content()).Digest
		_, old, err := s.Frames(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		_, now, err := fresh.Frames(t.Context(), d)
		if err != nil {
			t.Fatal(err)
		}
		for i, f := range old {
			if f.Keys != nil && !slices.Equal(f.Keys, now[i].Keys) {
				t.Errorf("%s: frame %d has keys %v, now %v", v.name, i, f.Keys, now[i].Keys)
			}
			count += len(f.Keys)
		}
	}
	if count < 10*format.SketchKeys {
		t.Errorf("only %d keys", count)
	}
}
