// The same measurements in Go: a command, a number of operations, and an answer on stdout.
//
// GOMAXPROCS says how many threads. Every command does its work once unmeasured before it is measured, as the Rust side
// throws its first round away. Answers are nanoseconds on the wall and of processor time, unless said otherwise.
package main

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// Tasks in flight at once.
const batch = 1000

// Results are collected from so many goroutines, so many from each.
const (
	tasks = 100
	each  = 1000
)

const capacity = 100

var commands = map[string]func(operations int){
	"spawn-waitgroup": spawnWaitGroup,
	"spawn-errgroup":  spawnErrgroup,
	"spawn-context":   spawnContext,
	"collect-slots":   collectSlots,
	"collect-chan":    collectChan,
	"queue-1":         func(items int) { queue(1, items) },
	"queue-4":         func(items int) { queue(4, items) },

	"fanout-20000":        func(items int) { fanout(20_000, 1, items) },
	"fanout-1000":         func(items int) { fanout(1_000, 1, items) },
	"fanout-100":          func(items int) { fanout(100, 1, items) },
	"fanout-chunks-20000": func(items int) { fanout(20_000, 500, items) },
	"fanout-chunks-1000":  func(items int) { fanout(1_000, 500, items) },
	"fanout-chunks-100":   func(items int) { fanout(100, 500, items) },
}

func main() {
	if len(os.Args) != 3 {
		fail("usage: COMMAND OPERATIONS")
	}
	operations, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fail(err.Error())
	}
	switch command := os.Args[1]; command {
	case "memory":
		memory(operations)
	case "cancel":
		cancel(operations)
	default:
		work := commands[command]
		if work == nil {
			fail("no such command: " + command)
		}
		work(operations)
		runtime.GC()
		wall, cpu := time.Now(), cpuTime()
		work(operations)
		fmt.Println(time.Since(wall).Nanoseconds(), cpuTime()-cpu)
	}
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}

func cpuTime() int64 {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		fail(err.Error())
	}
	return usage.Utime.Nano() + usage.Stime.Nano()
}

var sink [batch]int

func spawnWaitGroup(operations int) {
	var group sync.WaitGroup
	for range operations / batch {
		for n := range batch {
			group.Add(1)
			go func() {
				defer group.Done()
				sink[n] = n
			}()
		}
		group.Wait()
	}
}

func spawnErrgroup(operations int) {
	for range operations / batch {
		group, ctx := errgroup.WithContext(context.Background())
		for n := range batch {
			group.Go(func() error {
				sink[n] = n
				return ctx.Err()
			})
		}
		if err := group.Wait(); err != nil {
			fail(err.Error())
		}
	}
}

func spawnContext(operations int) {
	parent, end := context.WithCancel(context.Background())
	defer end()
	var group sync.WaitGroup
	for range operations / batch {
		for n := range batch {
			ctx, done := context.WithCancel(parent)
			group.Add(1)
			go func() {
				defer group.Done()
				defer done()
				if ctx.Err() == nil {
					sink[n] = n
				}
			}()
		}
		group.Wait()
	}
}

// Starts goroutines that wait for the channel, and returns when they do.
func park(goroutines int, channel chan struct{}, ended *sync.WaitGroup) {
	var begun sync.WaitGroup
	begun.Add(goroutines)
	ended.Add(goroutines)
	for n := range goroutines {
		go func() {
			begun.Done()
			<-channel
			ended.Done()
		}()
		if n%batch == 0 {
			runtime.Gosched()
		}
	}
	begun.Wait()
}

// Answers with the resident bytes of so many parked goroutines.
func memory(goroutines int) {
	var ended sync.WaitGroup
	before := residentBytes()
	park(goroutines, make(chan struct{}), &ended)
	fmt.Println(residentBytes() - before)
}

// Answers with how long the call took and how long everything.
func cancel(goroutines int) {
	channel := make(chan struct{})
	var ended sync.WaitGroup
	park(goroutines, channel, &ended)
	began := time.Now()
	close(channel)
	call := time.Since(began)
	ended.Wait()
	fmt.Println(call.Nanoseconds(), time.Since(began).Nanoseconds())
}

func residentBytes() int {
	statm, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		fail(err.Error())
	}
	var size, resident int
	if _, err := fmt.Sscan(string(statm), &size, &resident); err != nil {
		fail(err.Error())
	}
	return resident * os.Getpagesize()
}

// Sixteen bytes.
type reading struct{ task, value int }

func collectSlots(operations int) {
	slots := make([]reading, tasks*each)
	var group sync.WaitGroup
	for range operations / (tasks * each) {
		for task := range tasks {
			group.Add(1)
			go func() {
				defer group.Done()
				part := slots[task*each : (task+1)*each]
				for n := range part {
					part[n] = reading{task, n}
				}
			}()
		}
		group.Wait()
	}
}

func collectChan(operations int) {
	for range operations / (tasks * each) {
		results := make(chan reading, 1024)
		for task := range tasks {
			go func() {
				for n := range each {
					results <- reading{task, n}
				}
			}()
		}
		var all []reading
		for range tasks * each {
			all = append(all, <-results)
		}
	}
}

func queue(ends, items int) {
	channel := make(chan int, capacity)
	var senders, receivers sync.WaitGroup
	counts := make([]int, ends)
	for range ends {
		senders.Add(1)
		go func() {
			defer senders.Done()
			for n := range items / ends {
				channel <- n
			}
		}()
	}
	for end := range ends {
		receivers.Add(1)
		go func() {
			defer receivers.Done()
			received := 0
			for range channel {
				received++
			}
			counts[end] = received
		}()
	}
	senders.Wait()
	close(channel)
	receivers.Wait()
	received := 0
	for _, count := range counts {
		received += count
	}
	if received != items {
		fail("an item is handed over once")
	}
}
