package durable

// Space is what a file system has left for this user.
type Space struct {
	Bytes int64
	Files int64 // that can still be made; -1 if the file system has no such limit, or it is not known
}
