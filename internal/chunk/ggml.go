package chunk

// blockOf returns the block of a ggml type. The numbers are enum ggml_type's in
// https://github.com/ggml-org/ggml, include/ggml.h; the sizes are those that
// the static_asserts after each block's struct in src/ggml-common.h state, at
// commit d99724f. Numbers that are missing were removed from the format.
//
// BUG(heft): Q8_1 had 40 bytes until ggml's scales became halves in 2024. No
// file holds it: it is for products only.
func blockOf(kind uint32) (block, bool) {
	switch kind {
	case 0:
		return block{"F32", 1, 4}, true
	case 1:
		return block{"F16", 1, 2}, true
	case 2:
		return block{"Q4_0", 32, 2 + 16}, true
	case 3:
		return block{"Q4_1", 32, 2*2 + 16}, true
	case 6:
		return block{"Q5_0", 32, 2 + 4 + 16}, true
	case 7:
		return block{"Q5_1", 32, 2*2 + 4 + 16}, true
	case 8:
		return block{"Q8_0", 32, 2 + 32}, true
	case 9:
		return block{"Q8_1", 32, 2*2 + 32}, true
	case 10:
		return block{"Q2_K", 256, 2*2 + 16 + 64}, true
	case 11:
		return block{"Q3_K", 256, 2 + 64 + 32 + 12}, true
	case 12:
		return block{"Q4_K", 256, 2*2 + 12 + 128}, true
	case 13:
		return block{"Q5_K", 256, 2*2 + 12 + 128 + 32}, true
	case 14:
		return block{"Q6_K", 256, 2 + 16 + 192}, true
	case 15:
		return block{"Q8_K", 256, 4 + 256 + 16*2}, true
	case 16:
		return block{"IQ2_XXS", 256, 2 + 32*2}, true
	case 17:
		return block{"IQ2_XS", 256, 2 + 32*2 + 8}, true
	case 18:
		return block{"IQ3_XXS", 256, 2 + 3*32}, true
	case 19:
		return block{"IQ1_S", 256, 2 + 32 + 16}, true
	case 20:
		return block{"IQ4_NL", 32, 2 + 16}, true
	case 21:
		return block{"IQ3_S", 256, 2 + 13*8 + 4}, true
	case 22:
		return block{"IQ2_S", 256, 2 + 64 + 16}, true
	case 23:
		return block{"IQ4_XS", 256, 2 + 2 + 4 + 128}, true
	case 24:
		return block{"I8", 1, 1}, true
	case 25:
		return block{"I16", 1, 2}, true
	case 26:
		return block{"I32", 1, 4}, true
	case 27:
		return block{"I64", 1, 8}, true
	case 28:
		return block{"F64", 1, 8}, true
	case 29:
		return block{"IQ1_M", 256, 32 + 16 + 8}, true
	case 30:
		return block{"BF16", 1, 2}, true
	case 34:
		return block{"TQ1_0", 256, 2 + 4 + 48}, true
	case 35:
		return block{"TQ2_0", 256, 2 + 64}, true
	case 39:
		return block{"MXFP4", 32, 1 + 16}, true
	case 40:
		return block{"NVFP4", 64, 4 + 32}, true
	case 41:
		return block{"Q1_0", 128, 2 + 16}, true
	case 42:
		return block{"Q2_0", 64, 2 + 16}, true
	}
	return block{}, false
}
