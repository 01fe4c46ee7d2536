package book

import (
	"bytes"
	"context"
	"fmt"
	"os/signal"
	"runtime/pprof"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// ANCHOR: goleak
func TestThePageIsRendered(t *testing.T) {
	defer goleak.VerifyNone(t)
	if render("ann") == 0 {
		t.Fatal("an empty page")
	}
}

// ANCHOR_END: goleak

// ANCHOR: dump
func dump() string {
	var out bytes.Buffer
	pprof.Lookup("goroutine").WriteTo(&out, 1) // stacks, and how many goroutines stand in each
	return out.String()
}

// ANCHOR_END: dump

// ANCHOR: shutdown
func serve() (packed int) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	orders := make(chan int, 100)
	var packer sync.WaitGroup
	packer.Go(func() {
		for order := range orders {
			packed += pack(order)
		}
	})
	for {
		order, err := nextOrder(ctx)
		if err != nil {
			break // nothing new
		}
		orders <- order
	}
	close(orders)
	done := make(chan struct{})
	go func() { packer.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(10 * time.Second): // who did not stop? nobody knows
	}
	return packed
}

// ANCHOR_END: shutdown

// ANCHOR: recover
func parseAll(files []string) []string {
	lines := make([]string, len(files))
	var wg sync.WaitGroup
	for i, file := range files {
		wg.Go(func() {
			defer func() { // in every goroutine: one that is forgotten ends the process
				if bug := recover(); bug != nil {
					lines[i] = fmt.Sprintf("a bug: %v", bug)
				}
			}()
			lines[i] = fmt.Sprintf("%d rows", parse(file))
		})
	}
	wg.Wait()
	return lines
}

// ANCHOR_END: recover

var nextID = 0

func nextOrder(ctx context.Context) (int, error) {
	if nextID == 50 {
		syscall.Kill(syscall.Getpid(), syscall.SIGTERM)
		<-ctx.Done()
		return 0, ctx.Err()
	}
	nextID++
	return nextID, nil
}

func pack(int) int { return 1 }

func parse(file string) int {
	if file == "" {
		panic("nobody tried an empty file")
	}
	return strings.Count(file, "\n") + 1
}

func TestADumpHasTheStacks(t *testing.T) {
	if !strings.Contains(dump(), "TestADumpHasTheStacks") {
		t.Fatal(dump())
	}
}

func TestWhatWasAcceptedIsPackedBeforeTheEnd(t *testing.T) {
	if packed := serve(); packed != 50 {
		t.Fatal(packed)
	}
}

func TestAPanicIsAValueAndTheOthersGoOn(t *testing.T) {
	got := parseAll([]string{"a\nb", "", "c"})
	if got[0] != "2 rows" || got[1] != "a bug: nobody tried an empty file" {
		t.Fatal(got)
	}
}
