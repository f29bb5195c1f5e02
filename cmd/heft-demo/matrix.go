package main

import "sync"

// float is the element type of a network: float32 to train, float64 to check
// the gradients of the very same code against finite differences.
type float interface{ float32 | float64 }

// Every product that is added to something is rounded first, by an explicit
// conversion: T(x*y) + z. The Go specification lets a compiler fuse x*y + z
// into one instruction with one rounding (arm64, GOAMD64=v3), and then the
// same seed would give other weights on another machine.

// parallel calls work on ranges that together cover [0, n), on at most workers
// goroutines, and returns when all are done. Which goroutine takes which range
// must not change the result: let each element be written by one call only.
func parallel(workers, n int, work func(lo, hi int)) {
	workers = min(workers, n)
	if workers <= 1 {
		work(0, n)
		return
	}
	var wg sync.WaitGroup
	for w := range workers {
		lo, hi := n*w/workers, n*(w+1)/workers
		wg.Go(func() { work(lo, hi) })
	}
	wg.Wait()
}

// matmul sets dst (m x n) to a (m x k) times the transpose of b (n x k), all in
// row order. Each element is the sum of its k products from first to last, so
// that the result has the same bits whatever the number of workers.
func matmul[T float](workers int, dst, a, b []T, m, n, k int) {
	parallel(workers, m, func(lo, hi int) {
		i := lo
		for ; i+2 <= hi; i += 2 {
			a0, a1 := a[i*k:][:k], a[(i+1)*k:][:k]
			d0, d1 := dst[i*n:][:n], dst[(i+1)*n:][:n]
			j := 0
			for ; j+4 <= n; j += 4 {
				tile(d0[j:][:4], d1[j:][:4], a0, a1, b[j*k:][:4*k])
			}
			for ; j < n; j++ {
				row := b[j*k:][:k]
				d0[j], d1[j] = dot(a0, row), dot(a1, row)
			}
		}
		for ; i < hi; i++ {
			row := a[i*k:][:k]
			for j := range n {
				dst[i*n+j] = dot(row, b[j*k:][:k])
			}
		}
	})
}

// tile computes two rows by four columns of a product at once: eight sums that
// don't wait for each other keep the adders busy, and each loaded value is used
// more than once.
//
//nolint:unconvert // the conversions round: see the top of this file
func tile[T float](d0, d1, a0, a1, b []T) {
	k := len(a0)
	a1 = a1[:k]
	b0, b1, b2, b3 := b[:k], b[k:][:k], b[2*k:][:k], b[3*k:][:k]
	var s00, s01, s02, s03, s10, s11, s12, s13 T
	for t, x := range a0 {
		y := a1[t]
		w := b0[t]
		s00 += T(x * w)
		s10 += T(y * w)
		w = b1[t]
		s01 += T(x * w)
		s11 += T(y * w)
		w = b2[t]
		s02 += T(x * w)
		s12 += T(y * w)
		w = b3[t]
		s03 += T(x * w)
		s13 += T(y * w)
	}
	d0[0], d0[1], d0[2], d0[3] = s00, s01, s02, s03
	d1[0], d1[1], d1[2], d1[3] = s10, s11, s12, s13
}

// dot returns the sum of the products of x and y, which have the same length.
//
//nolint:unconvert // the conversion rounds: see the top of this file
func dot[T float](x, y []T) T {
	var sum T
	y = y[:len(x)]
	for t, v := range x {
		sum += T(v * y[t])
	}
	return sum
}

// add adds x to dst, element by element.
func add[T float](dst, x []T) {
	x = x[:len(dst)]
	for i := range dst {
		dst[i] += x[i]
	}
}

// transpose returns the transpose of a, which has the given rows and columns,
// in room when that is long enough.
func transpose[T float](room, a []T, rows, cols int) []T {
	out := resize(room, len(a))
	for i := range rows {
		for j, v := range a[i*cols:][:cols] {
			out[j*rows+i] = v
		}
	}
	return out
}

// resize returns a slice of length n with whatever it contains, in room when
// that is long enough.
func resize[T float](room []T, n int) []T {
	if cap(room) < n {
		return make([]T, n)
	}
	return room[:n]
}
