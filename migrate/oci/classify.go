package oci

import (
	"cmp"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"

	"github.com/heftstore/heft/registry"
)

// mediaType guesses from its name what a file of a model is. What it does not
// know is taken for weights: they are what no reader of a layout leaves out.
func mediaType(file string) string {
	base := strings.ToLower(path.Base(file))
	ext := path.Ext(base)
	for _, doc := range []string{"readme", "license", "licence", "notice", "copying", "changelog", "authors", "citation"} {
		if rest, ok := strings.CutPrefix(base, doc); ok && (rest == "" || strings.ContainsRune(".-_", rune(rest[0]))) {
			return typeDoc
		}
	}
	switch base {
	case "tokenizer.model", "merges.txt", "vocab.txt":
		return typeWeightConfig
	case "requirements.txt", "dockerfile", "makefile", ".gitattributes", ".gitignore":
		return typeCode
	}
	switch ext {
	case ".json", ".yaml", ".yml", ".toml", ".ini", ".cfg", ".conf", ".config", ".txt", ".jinja", ".jinja2", ".tmpl", ".template",
		".tiktoken", ".spm", ".vocab", ".bpe", ".xml", ".pbtxt":
		return typeWeightConfig
	case ".md", ".rst", ".html", ".pdf", ".png", ".jpg", ".jpeg", ".gif", ".svg", ".webp":
		return typeDoc
	case ".py", ".ipynb", ".sh", ".bash", ".c", ".cc", ".cpp", ".h", ".hpp", ".cu", ".go", ".rs", ".js", ".ts", ".jl", ".lua", ".r", ".java":
		return typeCode
	case ".csv", ".tsv", ".parquet", ".arrow", ".jsonl", ".tfrecord", ".tfrecords":
		return typeDataset
	}
	return typeWeight
}

// format names the format in which the most bytes of a model's weights are, ""
// when that is not known.
func format(files []registry.FileSHA256) string {
	sizes := map[string]int64{}
	for _, f := range files {
		if mediaType(f.Path) == typeWeight {
			sizes[formatOf(f.Path)] += f.Size
		}
	}
	return bySize(sizes, 1)
}

func formatOf(file string) string {
	base := strings.ToLower(path.Base(file))
	switch ext := path.Ext(base); ext {
	case ".safetensors", ".gguf", ".ggml", ".onnx", ".npz", ".npy", ".msgpack", ".keras", ".tflite", ".ckpt":
		return ext[1:]
	case ".pt", ".pth":
		return "pt"
	case ".h5", ".hdf5":
		return "h5"
	case ".bin":
		if strings.HasPrefix(base, "pytorch_model") {
			return "pt"
		}
	}
	return ""
}

// bySize joins the most that have the most bytes, in that order, with commas.
func bySize(sizes map[string]int64, most int) string {
	names := slices.SortedFunc(maps.Keys(sizes), func(a, b string) int {
		return cmp.Or(cmp.Compare(sizes[b], sizes[a]), strings.Compare(a, b))
	})
	return strings.Join(names[:min(most, len(names))], ",")
}

// precisionOf returns ModelPack's name for the type of a tensor's elements; ""
// is one that it has no name for, such as a quantized one.
func precisionOf(dtype string) string {
	switch dtype {
	case "F64":
		return "float64"
	case "F32":
		return "float32"
	case "F16":
		return "float16"
	case "BF16":
		return "bfloat16"
	case "F8_E4M3":
		return "float8_e4m3"
	case "F8_E5M2":
		return "float8_e5m2"
	case "C64":
		return "complex64"
	case "C128":
		return "complex128"
	case "I8", "I16", "I32", "I64":
		return "int" + dtype[1:]
	case "U8", "U16", "U32", "U64":
		return "uint" + dtype[1:]
	case "BOOL":
		return "bool"
	}
	return ""
}

// paramSize writes a number of parameters as ModelPack has it, in thousands or
// more with at most one decimal: "6.7B". It is "" where that would be zero.
func paramSize(n int64) string {
	unit := int64(1000)
	for i, prefix := range "KMBTQ" {
		// n/unit in tenths, rounded; n*10 could overflow.
		tenths := n / (unit / 10)
		if n%(unit/10) >= unit/20 {
			tenths++
		}
		switch {
		case tenths <= 0:
			return ""
		case tenths >= 10_000 && i < 4:
			unit *= 1000
			continue
		}
		s := strconv.FormatInt(tenths/10, 10)
		if tenths%10 != 0 {
			s += "." + strconv.FormatInt(tenths%10, 10)
		}
		return s + string(prefix)
	}
	return ""
}
