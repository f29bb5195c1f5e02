//go:build unix

package main

import (
	"os"
	"runtime"
	"syscall"
	"time"
)

// cpuTime returns the user and system time of this process so far.
func cpuTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// peakMemory returns the largest resident size of an ended process, in bytes.
func peakMemory(p *os.ProcessState) (int64, bool) {
	u, ok := p.SysUsage().(*syscall.Rusage)
	if !ok {
		return 0, false
	}
	unit := int64(1024) // kilobytes on Linux and the BSDs, bytes on macOS
	if runtime.GOOS == "darwin" {
		unit = 1
	}
	return u.Maxrss * unit, true
}
