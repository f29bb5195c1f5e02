package registry

import (
	"bytes"
	"errors"
	"testing"

	"github.com/heftstore/heft/blob"
)

// TestGCMeetsTransfer collects while another process replaces the file of a version
// by one that borrows from a blob which no version has, as a repair does.
func TestGCMeetsTransfer(t *testing.T) {
	ctx := t.Context()
	shared := weights(1, 1<<20)
	content := append(bytes.Clone(shared), "d"...)
	from, r := newRegistry(t), newRegistry(t)
	addFiles(t, from, "g:1", map[string][]byte{"w": append(bytes.Clone(shared), weights(2, 1<<20)...)})
	addFiles(t, from, "m:1", map[string][]byte{"w": content})
	addFiles(t, r, "e:1", map[string][]byte{"w": append(bytes.Clone(shared), "e"...)})
	m := addFiles(t, r, "m:1", map[string][]byte{"w": content})
	addFiles(t, r, "x:1", map[string][]byte{"w": []byte("to be collected")})
	must(t, r.Delete(ctx, "x:1", Note{}))
	once := false
	c, err := r.GC(ctx, &GCOptions{Grace: -1, Progress: func(string, int) {
		if once {
			return
		}
		once = true
		o := again(t, r)
		x, err := o.store.TransferFrom(ctx, from.store)
		must(t, err)
		did, err := x.Copy(ctx, blob.Sum(content))
		must(t, errors.Join(err, x.Sync(ctx), x.Close()))
		if did.Replaced != 1 || did.Files != 2 {
			t.Fatalf("%+v", did)
		}
	}})
	must(t, err)
	if c.Trashed.Count != 2 {
		t.Errorf("%+v", c)
	}
	if !bytes.Equal(m.content(t, "w"), content) {
		t.Error("another content")
	}
	must(t, r.index.Rebuild(ctx)) // as a repair does
	sound(t, r)
}
