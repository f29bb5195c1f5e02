package main

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"sync"
	"time"

	"github.com/vbauerster/mpb/v8"
	"github.com/vbauerster/mpb/v8/decor"
	"golang.org/x/term"
)

// progressDelay is how long something may last before a bar appears: a bar
// that flashes by only disturbs (Nielsen, "Response Times": at 1 s the flow of
// thought breaks).
const progressDelay = time.Second

// progress shows how far a long transfer is, on a terminal. Its methods may be
// called from several goroutines.
type progress struct {
	out   io.Writer // nil: show nothing
	label string
	total int64 // bytes; 0 when unknown
	start time.Time

	mu   sync.Mutex
	over bool
	done int64
	box  *mpb.Progress // nil before progressDelay
	bar  *mpb.Bar
}

// progress returns one for that many bytes, 0 for an unknown number. It shows
// nothing when standard error is no terminal, or with --quiet.
func (a *app) progress(label string, total int64) *progress {
	p := &progress{label: label, total: total, start: time.Now()}
	if f, ok := a.stderr.(*os.File); ok && !a.quiet && term.IsTerminal(int(f.Fd())) {
		p.out = f
	}
	return p
}

// add counts n bytes more.
func (p *progress) add(n int64) {
	if p.out == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.over {
		return
	}
	p.done += n
	if p.bar == nil {
		if time.Since(p.start) < progressDelay {
			return
		}
		p.show()
	}
	p.bar.SetCurrent(p.done)
}

// show makes the bar.
func (p *progress) show() {
	p.box = mpb.New(mpb.WithOutput(p.out), mpb.WithWidth(64))
	before := mpb.PrependDecorators(decor.Name(p.label + " "))
	speed := decor.NewAverageSpeed(decor.SizeB1024(0), " % .1f", p.start)
	if p.total <= 0 {
		p.bar = p.box.New(0, mpb.SpinnerStyle(), before, mpb.BarRemoveOnComplete(),
			mpb.AppendDecorators(decor.CurrentKibiByte("% .1f"), speed))
		return
	}
	p.bar = p.box.New(p.total, mpb.BarStyle(), before, mpb.BarRemoveOnComplete(),
		mpb.AppendDecorators(decor.CountersKibiByte("% .1f / % .1f"), speed, decor.Name(" "),
			decor.NewAverageETA(decor.ET_STYLE_GO, p.start, nil)))
}

// end removes the bar. It may be called twice.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.over = true
	if p.bar != nil {
		p.bar.Abort(true)
		p.box.Wait()
		p.bar = nil
	}
}

// reader returns r, counted.
func (p *progress) reader(r io.Reader) io.Reader {
	if p.out == nil {
		return r
	}
	return &countedReader{r, p}
}

type countedReader struct {
	io.Reader
	p *progress
}

func (r *countedReader) Read(b []byte) (int, error) {
	n, err := r.Reader.Read(b)
	r.p.add(int64(n))
	return n, err
}

// The counted readers hand on what a file can do besides, so that its structure
// can be seen before it is read.

func (r *countedReader) ReadAt(b []byte, off int64) (int, error) { return readAt(r.Reader, b, off) }
func (r *countedReader) Seek(off int64, whence int) (int64, error) {
	return seek(r.Reader, off, whence)
}
func (f countedFile) ReadAt(b []byte, off int64) (int, error)   { return readAt(f.File, b, off) }
func (f countedFile) Seek(off int64, whence int) (int64, error) { return seek(f.File, off, whence) }
func (f countedDir) ReadAt(b []byte, off int64) (int, error)    { return readAt(f.ReadDirFile, b, off) }
func (f countedDir) Seek(off int64, whence int) (int64, error) {
	return seek(f.ReadDirFile, off, whence)
}

func readAt(r any, b []byte, off int64) (int, error) {
	if at, ok := r.(io.ReaderAt); ok {
		return at.ReadAt(b, off)
	}
	return 0, errors.ErrUnsupported
}

// seek fails unless r can be read at any place too.
func seek(r any, off int64, whence int) (int64, error) {
	if _, ok := r.(io.ReaderAt); !ok {
		return 0, errors.ErrUnsupported
	}
	if s, ok := r.(io.Seeker); ok {
		return s.Seek(off, whence)
	}
	return 0, errors.ErrUnsupported
}

// fs returns fsys with every file counted as it is read.
func (p *progress) fs(fsys fs.FS) fs.FS {
	if p.out == nil {
		return fsys
	}
	return countedFS{fsys, p}
}

// countedFS hands on what os.Root's file system can do besides Open.
type countedFS struct {
	fs.FS
	p *progress
}

func (c countedFS) Open(name string) (fs.File, error) {
	f, err := c.FS.Open(name)
	if err != nil {
		return nil, err
	}
	if d, ok := f.(fs.ReadDirFile); ok {
		return countedDir{d, c.p}, nil
	}
	return countedFile{f, c.p}, nil
}

func (c countedFS) ReadDir(name string) ([]fs.DirEntry, error) { return fs.ReadDir(c.FS, name) }
func (c countedFS) Stat(name string) (fs.FileInfo, error)      { return fs.Stat(c.FS, name) }
func (c countedFS) Lstat(name string) (fs.FileInfo, error)     { return fs.Lstat(c.FS, name) }
func (c countedFS) ReadLink(name string) (string, error)       { return fs.ReadLink(c.FS, name) }

type countedFile struct {
	fs.File
	p *progress
}

func (f countedFile) Read(b []byte) (int, error) {
	n, err := f.File.Read(b)
	f.p.add(int64(n))
	return n, err
}

// countedDir is countedFile for *os.File, which is a folder or a file.
type countedDir struct {
	fs.ReadDirFile
	p *progress
}

func (f countedDir) Read(b []byte) (int, error) {
	n, err := f.ReadDirFile.Read(b)
	f.p.add(int64(n))
	return n, err
}
