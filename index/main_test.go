package index

import (
	"testing"

	"go.uber.org/goleak"
)

// TestMain checks that no goroutine is left behind by the tests.
func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }
