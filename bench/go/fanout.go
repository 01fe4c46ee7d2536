package main

import (
	"errors"
	"sync"
	"sync/atomic"
)

// Steps of the calculation per microsecond: the same number as on the Rust side.
const stepsPerMicrosecond = 820

type computed struct {
	value uint64
	err   error
}

var errItem = errors.New("999")

// What keeps the compiler from leaving the calculation out: it cannot know that this stays 0.
var zero atomic.Uint64

// One item in a thousand fails.
func value(steps, item uint64) computed {
	mask := zero.Load()
	sum := item | 1
	for step := range steps {
		sum = (sum*6364136223846793005 + step) ^ mask
	}
	if item%1000 == 999 {
		return computed{err: errItem}
	}
	return computed{value: sum}
}

// A goroutine per so many items, and a slot for each result.
func fanout(nanos uint64, perGoroutine, items int) {
	steps := stepsPerMicrosecond * nanos / 1000
	results := make([]computed, items)
	var group sync.WaitGroup
	for first := 0; first < items; first += perGoroutine {
		group.Add(1)
		go func() {
			defer group.Done()
			for n := first; n < min(first+perGoroutine, items); n++ {
				results[n] = value(steps, uint64(n))
			}
		}()
	}
	group.Wait()
	failed := 0
	for _, result := range results {
		if result.err != nil {
			failed++
		}
	}
	if failed != items/1000 {
		fail("each failure is kept")
	}
}
