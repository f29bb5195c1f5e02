package codec

// Elem says what the elements of a frame are.
type Elem uint8

// The elements that the codecs tell apart. Everything that is not a float of
// these is Bytes, whole bytes in records of Kind.Stride.
const (
	Bytes Elem = iota
	BF16
	F16
	F32
	F64
)

// Width returns the bytes of an element; 1 for Bytes.
func (e Elem) Width() int {
	switch e {
	case BF16, F16:
		return 2
	case F32:
		return 4
	case F64:
		return 8
	}
	return 1
}

// String returns the element's name, as in docs/codec.md.
func (e Elem) String() string {
	switch e {
	case Bytes:
		return "bytes"
	case BF16:
		return "bf16"
	case F16:
		return "fp16"
	case F32:
		return "fp32"
	case F64:
		return "fp64"
	}
	return "unknown"
}

// Kind says how the bytes of a frame are best read. It is a guess: a wrong one
// costs room, never bytes. The zero Kind is bytes without any structure.
type Kind struct {
	Elem Elem
	// Lead is how many bytes come before the first whole element or record:
	// below Elem.Width or Stride.
	Lead int
	// Stride is, for Bytes, the length of a record in which bytes at the same
	// place are alike: the width of an integer, or a block of quantised values.
	// 0 and 1 mean none. At most MaxStride.
	Stride int
}

// MaxStride is the longest record: the longest block of GGUF has 292 bytes
// (IQ and K quants have 18 to 292 a block of 32 to 256 values).
const MaxStride = 512
