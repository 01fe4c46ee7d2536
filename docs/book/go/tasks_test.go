package book

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"
)

// ANCHOR: errgroup
func fetchAll(ctx context.Context, urls []string) ([]string, error) {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(8)
	bodies := make([]string, len(urls))
	for i, url := range urls {
		g.Go(func() (err error) {
			bodies[i], err = get(ctx, url)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return bodies, nil
}

// ANCHOR_END: errgroup

// ANCHOR: errgroup-different
type profile struct {
	name  string
	posts int
}

func profileOf(ctx context.Context, user int) (p profile, err error) {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() (err error) {
		p.name, err = nameOf(ctx, user)
		return err
	})
	g.Go(func() (err error) {
		p.posts, err = postsOf(ctx, user)
		return err
	})
	return p, g.Wait()
}

// ANCHOR_END: errgroup-different

// ANCHOR: waitgroup
func flushAll(shards []*shard) {
	var wg sync.WaitGroup
	for _, shard := range shards {
		wg.Go(shard.flush)
	}
	wg.Wait()
}

// ANCHOR_END: waitgroup

func get(_ context.Context, url string) (string, error) {
	if !strings.HasPrefix(url, "https://") {
		return "", errors.New("not fetched: " + url)
	}
	return "body of " + url, nil
}

func nameOf(_ context.Context, _ int) (string, error) { return "ann", nil }

func postsOf(_ context.Context, user int) (int, error) {
	if user == 0 {
		return 0, errors.New("there is no user 0")
	}
	return 3, nil
}

type shard struct{ flushed *atomic.Int32 }

func (s *shard) flush() { s.flushed.Add(1) }

func TestResultsComeInOrderAndTheFirstErrorWins(t *testing.T) {
	got, err := fetchAll(t.Context(), []string{"https://a", "https://b"})
	if err != nil || !slices.Equal(got, []string{"body of https://a", "body of https://b"}) {
		t.Fatal(got, err)
	}
	if _, err := fetchAll(t.Context(), []string{"https://a", "ftp://b"}); err == nil {
		t.Fatal("an error was expected")
	}
}

func TestDifferentTasksHaveResultsOfDifferentTypes(t *testing.T) {
	if got, err := profileOf(t.Context(), 7); err != nil || got != (profile{"ann", 3}) {
		t.Fatal(got, err)
	}
	if _, err := profileOf(t.Context(), 0); err == nil {
		t.Fatal("an error was expected")
	}
}

func TestAWaitGroupWaitsForEverybody(t *testing.T) {
	var flushed atomic.Int32
	flushAll([]*shard{{&flushed}, {&flushed}, {&flushed}})
	if flushed.Load() != 3 {
		t.Fatal(flushed.Load())
	}
}
