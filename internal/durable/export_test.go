package durable

// CreateDirIn is CreateDir in fsys.
func CreateDirIn(fsys FS, name string) error { return createDir(fsFolders{fsys}, name) }

type fsFolders struct{ FS }

func (fsFolders) Parent(name string) string { return Parent(name) }
