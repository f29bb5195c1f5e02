package durable

import (
	"io/fs"
	"os"
	"syscall"
)

// syncDir only checks that name is a directory: Windows can't flush one. NTFS
// journals its entries and orders a rename after the flushed file.
func syncDir(root *os.Root, name string) error {
	info, err := root.Stat(name)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "syncdir", Path: name, Err: syscall.ENOTDIR}
	}
	return nil
}
