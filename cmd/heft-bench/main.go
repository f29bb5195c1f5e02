// Command heft-bench measures heft beside plain tools, in one run.
//
// It makes float weights of its own, or takes a folder of real ones, and
// prints for each way of storing them the time, the CPU seconds and the size.
// Figures of different runs are not comparable; ratios within one are.
package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"text/tabwriter"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fl := flag.NewFlagSet("heft-bench", flag.ContinueOnError)
	fl.SetOutput(stderr)
	fl.Usage = func() {
		fmt.Fprintln(stderr, "usage: heft-bench [flags] [FOLDER]\n\nMeasures generated float weights, and the files of FOLDER if one is given.")
		fl.PrintDefaults()
	}
	mib := fl.Int("mib", 512, "MiB of generated weights of each kind")
	rounds := fl.Int("rounds", 5, "rounds; the table shows medians")
	streamMiB := fl.Int("stream-mib", 4096, "MiB of the stream whose peak memory is measured; 0 leaves it out")
	dir := fl.String("dir", "", "work in a new folder below this one (default: the system's temporary folder)")
	child := fl.Bool("stream-child", false, "internal: put the stream and exit")
	if err := fl.Parse(args); err != nil {
		return 2
	}
	if *child {
		return report(stderr, streamChild(ctx, fl.Arg(0), *streamMiB))
	}
	if fl.NArg() > 1 || *mib < 1 || *rounds < 1 || *streamMiB < 0 {
		fl.Usage()
		return 2
	}
	work, err := os.MkdirTemp(*dir, "heft-bench-")
	if err != nil {
		return report(stderr, err)
	}
	defer os.RemoveAll(work)
	fmt.Fprintf(stdout, "%s %s/%s, %d CPUs (%s), %d rounds, medians\n", runtime.Version(), runtime.GOOS, runtime.GOARCH, runtime.NumCPU(), cpuModel(), *rounds)
	b := &bench{work: work, rounds: *rounds, out: stdout}
	if err := b.generated(ctx, *mib); err != nil {
		return report(stderr, err)
	}
	if *streamMiB > 0 {
		if err := b.stream(ctx, *streamMiB); err != nil {
			return report(stderr, err)
		}
	}
	if fl.NArg() == 1 {
		if err := b.folder(ctx, fl.Arg(0)); err != nil {
			return report(stderr, err)
		}
	}
	return 0
}

func report(stderr io.Writer, err error) int {
	if err == nil {
		return 0
	}
	fmt.Fprintln(stderr, "heft-bench:", err)
	return 1
}

// table prints aligned columns under a title.
func (b *bench) table(title string, header string, rows []string) error {
	fmt.Fprintf(b.out, "\n%s\n", title)
	w := tabwriter.NewWriter(b.out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, header)
	for _, r := range rows {
		fmt.Fprintln(w, r)
	}
	return w.Flush()
}

func fileSize(path string) (int64, error) {
	st, err := os.Stat(path)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

// folderSize returns the bytes of the files below dir.
func folderSize(dir string) (total int64, err error) {
	err = filepath.Walk(dir, func(_ string, info os.FileInfo, err error) error {
		if err == nil && info.Mode().IsRegular() {
			total += info.Size()
		}
		return err
	})
	return total, err
}
