package book

import (
	"context"
	"slices"
	"testing"
	"time"
)

// ANCHOR: channel
func letters(words []string) int {
	ch := make(chan string, 16)
	go func() {
		defer close(ch)
		for _, word := range words {
			ch <- word
		}
	}()
	letters := 0
	for word := range ch {
		letters += len(word)
	}
	return letters
}

// ANCHOR_END: channel

// ANCHOR: receiver-leaves
func first(ctx context.Context, words []string) string {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel() // without it the sender below waits for ever
	ch := make(chan string, 1)
	go func() {
		defer close(ch)
		for _, word := range words {
			select {
			case ch <- word:
			case <-ctx.Done():
				return
			}
		}
	}()
	return <-ch
}

// ANCHOR_END: receiver-leaves

// ANCHOR: unbuffered
func handOver() int {
	baton := make(chan int)
	go func() {
		baton <- 7 // returns when the second runner has it
	}()
	return <-baton
}

// ANCHOR_END: unbuffered

// ANCHOR: select
func collect(ctx context.Context, jobs <-chan int, flush func([]int)) error {
	var batch []int
	ticker := time.NewTicker(time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-ticker.C:
			flush(batch)
			batch = nil
		case job, ok := <-jobs:
			if !ok {
				flush(batch)
				return nil
			}
			batch = append(batch, job)
		}
	}
}

// ANCHOR_END: select

// ANCHOR: nil
func sumOfBoth(left, right <-chan int) int {
	sum := 0
	for left != nil || right != nil {
		select {
		case item, ok := <-left:
			if !ok {
				left = nil // a nil channel is never ready: this case is switched off
				continue
			}
			sum += item
		case item, ok := <-right:
			if !ok {
				right = nil
				continue
			}
			sum += item
		}
	}
	return sum
}

// ANCHOR_END: nil

func TestAChannelEndsWhenItIsClosed(t *testing.T) {
	if got := letters([]string{"sheet", "bend"}); got != 9 {
		t.Fatal(got)
	}
}

func TestASenderIsToldThatNobodyReceivesAnyMore(t *testing.T) {
	if got := first(t.Context(), []string{"reef", "clove", "rolling"}); got != "reef" {
		t.Fatal(got)
	}
}

func TestARendezvousHandsOver(t *testing.T) {
	if got := handOver(); got != 7 {
		t.Fatal(got)
	}
}

func TestABatchLeavesAtTheEnd(t *testing.T) {
	jobs := make(chan int, 3)
	jobs <- 1
	jobs <- 2
	close(jobs)
	var batches [][]int
	if err := collect(t.Context(), jobs, func(batch []int) { batches = append(batches, batch) }); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(slices.Concat(batches...), []int{1, 2}) {
		t.Fatal(batches)
	}
}

func TestMergedChannelsEndWhenBothHave(t *testing.T) {
	left, right := make(chan int, 3), make(chan int, 1)
	left <- 1
	left <- 2
	right <- 10
	close(left)
	close(right)
	if got := sumOfBoth(left, right); got != 13 {
		t.Fatal(got)
	}
}
