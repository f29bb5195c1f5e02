//go:build !unix

package main

// owner returns "": whose a file is takes more than a look at it here.
func owner(string) string { return "" }
