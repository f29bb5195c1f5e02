package lattice

import (
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	at := func(s string) int64 {
		u, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			t.Fatal(err)
		}
		return u.UnixMicro()
	}
	for _, tt := range []struct {
		in   any
		want int64
	}{
		{int64(0), 0},
		{int64(1700000000000000), 1700000000000000},
		{int64(2460000), 2460000}, // no Julian day
		{"2460000", 2460000},
		{"0", 0},
		{"-0", 0},
		{"007", 7},
		{"1700000000000000", 1700000000000000},
		{"2024-01-02T03:04:05Z", at("2024-01-02T03:04:05Z")},
		{"2024-01-02t03:04:05z", at("2024-01-02T03:04:05Z")},
		{"2024-01-02 03:04:05+00:00", at("2024-01-02T03:04:05Z")},
		{"2024-01-02T03:04:05.123456+05:30", at("2024-01-02T03:04:05.123456+05:30")},
		{"2024-01-02T03:04:05.1-08:00", at("2024-01-02T03:04:05.1-08:00")},
		{"2024-01-02T03:04:05.123456999Z", at("2024-01-02T03:04:05.123456Z")},
		{"2024-01-02T03:04:05.00000000000000000000000001Z", at("2024-01-02T03:04:05Z")},
		{"2016-12-31T23:59:60Z", at("2017-01-01T00:00:00Z")},
		{"2024-02-29T00:00:00Z", at("2024-02-29T00:00:00Z")},
		{"1970-01-01T01:00:00+01:00", 0},
		{"9999-12-31T23:59:59.999999Z", maxMicros},
	} {
		if got, err := parseTime(tt.in); err != nil || got != tt.want {
			t.Errorf("parseTime(%v) = %d, %v; want %d", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []any{
		nil, 2460000.5, []byte("1700000000000000"), int64(-1), "-1", int64(maxMicros + 1), "", " ", "+5", " 5", "5 ", "1e9", "0x10", "--1", "-",
		"99999999999999999999", "-99999999999999999999", "now", "2024-01-02", "2024-01-02T03:04:05", "2024-01-02T03:04:05.Z",
		"2024-01-02T03:04:05,5Z", "2024-01-02T03:04:05+0530", "2024-01-02T03:04:05+24:00", "2024-01-02T03:04:05+05:60",
		"2024-01-02T24:00:00Z", "2024-01-02T03:60:00Z", "2024-01-02T03:04:61Z", "2023-02-29T00:00:00Z", "2024-13-01T00:00:00Z",
		"2024-00-01T00:00:00Z", "2024-01-00T00:00:00Z", "1969-12-31T23:59:59.999999Z", "0000-01-01T00:00:00Z",
		"2024-01-02T03:04:05Z ", "2024-01-02_03:04:05Z", "20240102T030405Z", "2024-01-02T03:04:05+5:30", "٢٠٢٤-01-02T03:04:05Z",
	} {
		if got, err := parseTime(in); err == nil {
			t.Errorf("parseTime(%v) = %d", in, got)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, s := range []string{"1700000000000000", "-1", "2024-01-02T03:04:05.123456789+05:30", "2024-01-02 03:04:05z", "2016-12-31T23:59:60Z", "2024-02-30T00:00:00Z"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTime(s)
		if err == nil && (got < 0 || got > maxMicros) {
			t.Fatalf("%q is %d", s, got)
		}
		// What the standard library takes, in the years that we take, is the same.
		if want, e := time.Parse(time.RFC3339Nano, s); e == nil && want.UnixMicro() >= 0 && want.UnixMicro() <= maxMicros {
			if err != nil && len(s) > 19 && s[19] != ',' {
				// Its offsets go up to 24 hours and it takes hours of one digit.
				if len(s) < 6 || s[len(s)-1] == 'Z' {
					t.Fatalf("%q: %v", s, err)
				}
			}
			if err == nil && got != want.UnixMicro() {
				t.Fatalf("%q is %d, want %d", s, got, want.UnixMicro())
			}
		}
	})
}
