package book

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/singleflight"
	"golang.org/x/time/rate"
)

// ANCHOR: workers
func thumbnails(images []image) (refused int) {
	jobs := make(chan image, 100)
	var workers sync.WaitGroup
	for range 4 {
		workers.Go(func() {
			for image := range jobs {
				image.shrink()
			}
		})
	}
	for _, image := range images {
		select {
		case jobs <- image:
		default:
			refused++
		}
	}
	close(jobs)
	workers.Wait()
	return refused
}

// ANCHOR_END: workers

// ANCHOR: ticker
func service(ctx context.Context, sessions *sessions) {
	ticker := time.NewTicker(5 * time.Second)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			sessions.sweep() // if it takes longer than the period, ticks are dropped in silence
		}
	}
}

// ANCHOR_END: ticker

// ANCHOR: singleflight
type routes struct {
	group    singleflight.Group
	upstream *upstream
}

func (r *routes) read(channel string) (uint16, error) {
	route, err, _ := r.group.Do(channel, func() (any, error) {
		return r.upstream.routeOf(channel)
	})
	if err != nil {
		return 0, err
	}
	return route.(uint16), nil
}

// ANCHOR_END: singleflight

// ANCHOR: rate
func sendAll(ctx context.Context, mails []mail) error {
	limiter := rate.NewLimiter(rate.Every(100*time.Millisecond), 1)
	for _, mail := range mails {
		if err := limiter.Wait(ctx); err != nil {
			return err
		}
		mail.send()
	}
	return nil
}

// ANCHOR_END: rate

type image struct{ done *atomic.Int32 }

func (i image) shrink() { i.done.Add(1) }

type sessions struct{}

func (*sessions) sweep() {}

type upstream struct{ calls atomic.Int32 }

func (u *upstream) routeOf(channel string) (uint16, error) {
	u.calls.Add(1)
	if channel == "" {
		return 0, errors.New("no such channel")
	}
	return 7, nil
}

type mail struct{}

func (mail) send() {}

func TestAFullPoolSaysSo(t *testing.T) {
	var done atomic.Int32
	refused := thumbnails(make([]image, 0))
	images := make([]image, 1000)
	for i := range images {
		images[i] = image{&done}
	}
	refused += thumbnails(images)
	if refused+int(done.Load()) != 1000 {
		t.Fatal(refused, done.Load())
	}
}

func TestATickerEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	service(ctx, &sessions{})
}

func TestReadersShareAFlight(t *testing.T) {
	r := routes{upstream: new(upstream)}
	if route, err := r.read("orders"); err != nil || route != 7 {
		t.Fatal(route, err)
	}
	if _, err := r.read(""); err == nil {
		t.Fatal("an error was expected")
	}
}

func TestMailsLeaveInTurn(t *testing.T) {
	if err := sendAll(t.Context(), make([]mail, 2)); err != nil {
		t.Fatal(err)
	}
}
