package main

import (
	"io/fs"
	"os"
	"strings"
)

// cpuModel names the processor, as far as the system tells.
func cpuModel() string {
	b, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return "processor not known"
	}
	for line := range strings.Lines(string(b)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "processor not known"
}

// walkFiles calls fn for every regular file that is not empty.
func walkFiles(fsys fs.FS, fn func(path string, size int64) error) error {
	return fs.WalkDir(fsys, ".", func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil || info.Size() == 0 {
			return err
		}
		return fn(path, info.Size())
	})
}
