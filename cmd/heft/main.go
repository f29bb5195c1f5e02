// Command heft keeps model weights in a store: every byte once, with versions
// and lineage, and never a wrong byte back.
//
// Usage:
//
//	heft [--store DIR] VERB ...
//
// 'heft help' lists the verbs. It is the registry package at the command line:
// a verb reads its arguments, makes one call and prints what came back.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}
