package durable

import (
	"os"

	"golang.org/x/sys/unix"
)

// Reserve asks the file system to keep n bytes from the offset off on free for
// f, whose size and content stay as they are: writes there then work on a full
// disk. It promises nothing: where that is not possible it does nothing, and a
// truncation ends it.
func Reserve(f *os.File, off, n int64) {
	raw, err := f.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		_ = unix.Fallocate(int(fd), unix.FALLOC_FL_KEEP_SIZE, off, n)
	})
}
