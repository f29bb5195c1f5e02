package oci

import (
	"math"
	"regexp"
	"testing"

	"github.com/heftstore/heft/registry"
)

func TestMediaType(t *testing.T) {
	for file, want := range map[string]string{
		"weights.bin": typeWeight, "model-00001-of-00002.safetensors": typeWeight, "a/M.GGUF": typeWeight, "x.pt": typeWeight, "x.pth": typeWeight,
		"x.ckpt": typeWeight, "x.onnx": typeWeight, "x.npz": typeWeight, "x.h5": typeWeight, "x.msgpack": typeWeight, "noext": typeWeight,
		"x.unknown": typeWeight, ".hidden": typeWeight, "readmes.bin": typeWeight,
		"config.json": typeWeightConfig, "model.safetensors.index.json": typeWeightConfig, "tokenizer.model": typeWeightConfig,
		"vocab.txt": typeWeightConfig, "chat_template.jinja": typeWeightConfig, "a/b/hparams.yaml": typeWeightConfig,
		"README": typeDoc, "README.md": typeDoc, "readme_fr.txt": typeDoc, "LICENSE": typeDoc, "LICENSE.txt": typeDoc, "docs/a.pdf": typeDoc,
		"train.py": typeCode, "run.sh": typeCode, "requirements.txt": typeCode, ".gitattributes": typeCode,
		"eval.csv": typeDataset, "a.parquet": typeDataset, "a.jsonl": typeDataset,
	} {
		if got := mediaType(file); got != want {
			t.Errorf("%s is %s, not %s", file, got, want)
		}
	}
}

func TestFormat(t *testing.T) {
	for _, c := range []struct {
		files map[string]int64
		want  string
	}{
		{nil, ""},
		{map[string]int64{"weights.bin": 9}, ""},
		{map[string]int64{"config.json": 99, "a.safetensors": 1}, "safetensors"},
		{map[string]int64{"a.onnx": 5, "b.gguf": 3, "c.gguf": 3}, "gguf"},
		{map[string]int64{"a.pt": 5, "b.h5": 5}, "h5"}, // by name where sizes are equal
		{map[string]int64{"pytorch_model-1.bin": 5, "x.pth": 1}, "pt"},
		{map[string]int64{"a.pt": 1, "blob": 2}, ""},
	} {
		var files []registry.FileSHA256
		for p, n := range c.files {
			files = append(files, registry.FileSHA256{File: registry.File{Path: p, Size: n}})
		}
		if got := format(files); got != c.want {
			t.Errorf("%v: got %q, want %q", c.files, got, c.want)
		}
	}
}

func TestParamSize(t *testing.T) {
	for n, want := range map[int64]string{
		0: "", -5: "", math.MinInt64: "", 49: "", 50: "0.1K", 949: "0.9K", 950: "1K", 1000: "1K", 1049: "1K", 1050: "1.1K",
		999_949: "999.9K", 999_950: "1M", 25_557_032: "25.6M", 6_738_415_616: "6.7B", 70_000_000_000: "70B",
		1_000_000_000_000: "1T", math.MaxInt64: "9223.4Q",
	} {
		if got := paramSize(n); got != want {
			t.Errorf("%d: got %q, want %q", n, got, want)
		}
	}
	valid := regexp.MustCompile(`^[0-9]+(\.[0-9])?[KMBTQ]$`)
	for n := int64(50); n > 0 && n < math.MaxInt64/3; n = n*3 + 1 {
		if s := paramSize(n); !valid.MatchString(s) {
			t.Errorf("%d: got %q", n, s)
		}
	}
}

func TestPrecisionOf(t *testing.T) {
	for dtype, want := range map[string]string{"BF16": "bfloat16", "I8": "int8", "U64": "uint64", "BOOL": "bool", "Q4_K": "", "": "", ">F4": ""} {
		if got := precisionOf(dtype); got != want {
			t.Errorf("%s: got %q, want %q", dtype, got, want)
		}
	}
}
