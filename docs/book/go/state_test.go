package book

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
)

// ANCHOR: mutex
func count(words []string) map[string]int {
	var (
		mu   sync.Mutex
		hits = map[string]int{}
		wg   sync.WaitGroup
	)
	for _, word := range words {
		wg.Go(func() {
			mu.Lock()
			defer mu.Unlock()
			hits[word]++
		})
	}
	wg.Wait()
	return hits
}

// ANCHOR_END: mutex

// ANCHOR: once
var limits = sync.OnceValue(func() []int { return []int{10, 100} })

var address = sync.OnceValues(lookUp) // an error is kept for ever as well

// ANCHOR_END: once

// ANCHOR: pool-of-buffers
var buffers = sync.Pool{New: func() any { return new(bytes.Buffer) }}

func render(user string) int {
	page := buffers.Get().(*bytes.Buffer) // never waits: makes another one
	defer buffers.Put(page)
	page.Reset()
	fmt.Fprintf(page, "<h1>%s</h1>", user)
	return page.Len()
}

// ANCHOR_END: pool-of-buffers

func lookUp() (string, error) { return "10.0.0.7", nil }

func TestEveryHitIsCounted(t *testing.T) {
	if hits := count([]string{"reef", "bend", "reef"}); hits["reef"] != 2 || hits["bend"] != 1 {
		t.Fatal(hits)
	}
}

func TestOnce(t *testing.T) {
	if got, err := address(); err != nil || got != "10.0.0.7" || len(limits()) != 2 {
		t.Fatal(got, err)
	}
}

func TestABufferComesBack(t *testing.T) {
	if got := render("ann"); got != 12 {
		t.Fatal(got)
	}
}
