// Package docscheck proves that the links in the documentation lead somewhere.
// It is tests only, and exports nothing.
package docscheck
