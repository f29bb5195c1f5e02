package index

import (
	"errors"
	"os"
	"reflect"
	"syscall"
	"testing"
	"unsafe"

	"github.com/heftstore/heft/internal/durable"
	bolt "go.etcd.io/bbolt"
)

// TestBoltSyncs proves what traced relies on: bbolt syncs between the data pages
// and the meta page of a commit, and again after the meta page. A descriptor
// that can't be synced is put under bbolt just before, so that the sync shows as
// an error.
func TestBoltSyncs(t *testing.T) {
	for _, after := range []string{"data", "meta", "growth"} {
		t.Run(after, func(t *testing.T) {
			dir, err := durable.OpenDir(t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer dir.Close()
			db, err := createDatabase(dir)
			if err != nil {
				t.Fatal(err)
			}
			if err := errors.Join(db.sync(), db.close(), dir.Rename(databaseNew, databaseName)); err != nil {
				t.Fatal(err)
			}
			if db, err = openWriter(dir); err != nil {
				t.Fatal(err)
			}
			defer db.close()
			file, err := dir.OpenFile(databaseName, os.O_RDWR, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			defer w.Close()

			var order []string
			hook := reflect.ValueOf(db.bolt).Elem().FieldByName("ops").FieldByName("writeAt")
			before, err := db.file.Stat()
			if err != nil {
				t.Fatal(err)
			}
			*(*func([]byte, int64) (int, error))(unsafe.Pointer(hook.UnsafeAddr())) = func(p []byte, off int64) (int, error) {
				what := "data"
				if off < 2*int64(db.bolt.Info().PageSize) {
					what = "meta"
				}
				order = append(order, what)
				if info, err := file.Stat(); err != nil || info.Size() != before.Size() {
					order = append(order, "growth")
				}
				n, err := file.WriteAt(p, off)
				if what == after {
					// A pipe can't be synced.
					err = errors.Join(err, syscall.Dup3(int(w.Fd()), int(db.file.Fd()), syscall.O_CLOEXEC))
				}
				return n, err
			}
			value := make([]byte, 100)
			if after == "growth" {
				value = make([]byte, 1<<20)
			}
			err = db.bolt.Update(func(tx *bolt.Tx) error { return tx.Bucket([]byte(bucketMeta)).Put([]byte("k"), value) })
			switch after {
			case "data":
				if !errors.Is(err, syscall.EINVAL) || order[len(order)-1] != "data" {
					t.Errorf("after data pages bbolt went on without a sync: %v, %v", order, err)
				}
			case "meta":
				if !errors.Is(err, syscall.EINVAL) || order[len(order)-1] != "meta" || order[0] != "data" {
					t.Errorf("after the meta page bbolt did not sync: %v, %v", order, err)
				}
			case "growth":
				// The file has its new size before the first page is written.
				if err != nil || len(order) < 2 || order[1] != "growth" {
					t.Errorf("bbolt grew the file at another moment: %v, %v", order, err)
				}
			}
		})
	}
}
