package main

import (
	"sync"
	"sync/atomic"

	"github.com/panjf2000/ants/v2"
	"golang.org/x/sync/errgroup"
)

const (
	workers   = 5
	room      = 100
	smallSize = 10_000
)

var done atomic.Uint64

// A job of so many nanoseconds.
func job(nanos, n uint64) uint64 {
	mask := zero.Load()
	sum := n | 1
	for step := range stepsPerMicrosecond * nanos / 1000 {
		sum = (sum*6364136223846793005 + step) ^ mask
	}
	return sum
}

// Bursts of this size at most, each with a pool of its own.
func bursts(jobs, size int, burst func(jobs int) uint64) {
	size = min(size, jobs)
	for range jobs / size {
		if did := burst(size); did != uint64(size) {
			fail("each job is done once")
		}
	}
}

func poolChan(nanos uint64) func(int) uint64 {
	return func(jobs int) uint64 {
		queue := make(chan uint64, room)
		var did atomic.Uint64
		var group sync.WaitGroup
		for range workers {
			group.Add(1)
			go func() {
				defer group.Done()
				var mine, sum uint64
				for n := range queue {
					sum += job(nanos, n)
					mine++
				}
				done.Add(sum)
				did.Add(mine)
			}()
		}
		for n := range jobs {
			queue <- uint64(n)
		}
		close(queue)
		group.Wait()
		return did.Load()
	}
}

func poolErrgroup(nanos uint64) func(int) uint64 {
	return func(jobs int) uint64 {
		var did atomic.Uint64
		var group errgroup.Group
		group.SetLimit(workers)
		for n := range jobs {
			group.Go(func() error {
				if job(nanos, uint64(n)) == 0 {
					done.Add(1)
				}
				did.Add(1)
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			fail(err.Error())
		}
		return did.Load()
	}
}

func poolAnts(nanos uint64) func(int) uint64 {
	return func(jobs int) uint64 {
		var did atomic.Uint64
		var group sync.WaitGroup
		pool, err := ants.NewPool(workers)
		if err != nil {
			fail(err.Error())
		}
		defer pool.Release()
		for n := range jobs {
			group.Add(1)
			err := pool.Submit(func() {
				defer group.Done()
				if job(nanos, uint64(n)) == 0 {
					done.Add(1)
				}
				did.Add(1)
			})
			if err != nil {
				fail(err.Error())
			}
		}
		group.Wait()
		return did.Load()
	}
}

func init() {
	kinds := map[string]func(uint64) func(int) uint64{
		"chan": poolChan, "errgroup": poolErrgroup, "ants": poolAnts,
	}
	nanos := map[string]uint64{"100": 100, "1000": 1_000, "10000": 10_000}
	for kind, pool := range kinds {
		for name, length := range nanos {
			burst := pool(length)
			commands["pool-"+kind+"-"+name] = func(jobs int) { bursts(jobs, jobs, burst) }
			commands["pool-"+kind+"-"+name+"-small"] = func(jobs int) { bursts(jobs, smallSize, burst) }
		}
	}
}
