// Package promise scales the tests of docs/reliability.md and reports what they
// measured.
//
// Such a test is called TestPromise and something. It runs in a quick form with
// all other tests, and in full under `make soak`, which prints one line for each.
package promise

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

// Full reports whether the full measure is asked for: HEFT_SOAK is 1.
func Full() bool { return os.Getenv("HEFT_SOAK") == "1" }

// Times returns how often to try something: quick, or full under `make soak`.
func Times(quick, full int) int {
	if Full() {
		return full
	}
	return quick
}

// Kept prints the line of a promise, unless its test has failed: the name of the
// test and what it measured. It is the last call of the test.
func Kept(t testing.TB, format string, args ...any) {
	t.Helper()
	if !t.Failed() {
		_, _ = fmt.Fprintf(os.Stdout, "promise kept: %s: %s\n", strings.TrimPrefix(t.Name(), "TestPromise"), fmt.Sprintf(format, args...))
	}
}
