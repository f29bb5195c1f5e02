package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
)

// writeSafetensors is the command of that name: see TestScript.
func writeSafetensors(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: safetensors FILE NAME=DTYPE:SHAPE:NUMBERS...")
	}
	var head []string
	var data []byte
	for _, arg := range args[1:] {
		name, rest, ok := strings.Cut(arg, "=")
		part := strings.Split(rest, ":")
		if !ok || len(part) != 3 {
			ts.Fatalf("%s is not NAME=DTYPE:SHAPE:NUMBERS", arg)
		}
		quoted, err := json.Marshal(name)
		ts.Check(err)
		start := len(data)
		for number := range strings.SplitSeq(part[2], ",") {
			if number == "" {
				continue
			}
			f, err := strconv.ParseFloat(number, 32)
			ts.Check(err)
			switch part[0] {
			case "F32":
				data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(f)))
			case "U8":
				data = append(data, byte(f))
			default:
				ts.Fatalf("dtype %s", part[0])
			}
		}
		head = append(head, fmt.Sprintf(`%s:{"dtype":%q,"shape":[%s],"data_offsets":[%d,%d]}`,
			quoted, part[0], strings.ReplaceAll(part[1], "x", ","), start, len(data)))
	}
	text := "{" + strings.Join(head, ",") + "}"
	b := binary.LittleEndian.AppendUint64(nil, uint64(len(text)))
	b = append(append(b, text...), data...)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), b, 0o600))
}

func TestFormatShare(t *testing.T) {
	for _, tt := range []struct {
		part float64
		want string
	}{
		{0, "0.00%"}, {1e-9, "<0.01%"}, {0.0001, "0.01%"}, {0.00319, "0.32%"}, {0.01, "1.0%"},
		{0.03125, "3.1%"}, {0.5, "50.0%"}, {0.999, "99.9%"}, {0.99999, ">99.9%"}, {1, "100%"},
	} {
		if got := formatShare(tt.part); got != tt.want {
			t.Errorf("formatShare(%v) = %s, want %s", tt.part, got, tt.want)
		}
	}
}

func TestFormatShape(t *testing.T) {
	for _, tt := range []struct {
		shape []uint64
		want  string
	}{
		{nil, "-"}, {[]uint64{}, "[]"}, {[]uint64{0}, "[0]"}, {[]uint64{4096, 11008}, "[4096,11008]"}, {[]uint64{1<<64 - 1}, "[18446744073709551615]"},
	} {
		if got := formatShape(tt.shape); got != tt.want {
			t.Errorf("formatShape(%v) = %s, want %s", tt.shape, got, tt.want)
		}
	}
}
