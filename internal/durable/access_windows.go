package durable

// writable is not known before somebody tries: Windows has access lists, and no
// call that evaluates them for a folder as a whole.
func writable(string) bool { return true }
