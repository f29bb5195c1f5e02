package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	testscript.Main(leakless{m}, map[string]func(){"heft": main})
}

// leakless fails the tests if they leave a goroutine behind.
type leakless struct{ *testing.M }

func (l leakless) Run() int {
	code := l.M.Run()
	// What reads standard input ends with it: a read can't be interrupted.
	stdin := goleak.IgnoreAnyFunction("github.com/heftstore/heft/cmd/heft.interruptible.func2")
	if err := goleak.Find(stdin); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

// TestScript runs testdata/script. HEFT_STORE names a store that is not there
// yet, times are UTC, and these commands are added:
//
//	heft-exit CODE ARGS...  runs heft and expects that exit code
//	damage PATH [OFFSET]    flips a bit of a file, or of a store's largest blob
//	                        file: of its first frame, or at the offset, from the
//	                        end if it is negative
//	safetensors FILE NAME=DTYPE:SHAPE:NUMBERS...
//	                        writes such a file, of F32 and U8, as w=F32:2x2:1,2,3,NaN
//	sql DB FILE             runs the SQL in a file in a SQLite database
//	rows DB FILE            writes the rows of the table models to a file
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Setup: func(e *testscript.Env) error {
			e.Setenv("HEFT_STORE", filepath.Join(e.WorkDir, "store"))
			e.Setenv("HEFT_ACTOR", "tester")
			e.Setenv("TZ", "UTC")
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"heft-exit":   expectExit,
			"damage":      damage,
			"safetensors": writeSafetensors,
			"sql":         runSQL,
			"rows":        writeRows,
		},
	})
}

func expectExit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: heft-exit CODE ARGS...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec("heft", args[1:]...)
	got := 0
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		got = e.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
