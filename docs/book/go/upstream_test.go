package book

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/sony/gobreaker/v2"
	"github.com/thejerf/suture/v4"
)

// ANCHOR: suture
type kraken struct{ prices *prices }

// Serve runs until it fails; then it is started again.
func (k *kraken) Serve(ctx context.Context) error {
	for {
		if err := k.prices.next(ctx); err != nil {
			return err
		}
	}
}

func feeds(prices *prices) *suture.Supervisor {
	supervisor := suture.NewSimple("feeds")
	supervisor.Add(&kraken{prices})
	return supervisor // to be served: supervisor.Serve(ctx)
}

// ANCHOR_END: suture

// ANCHOR: breaker
type billing struct {
	breaker *gobreaker.CircuitBreaker[string]
}

func newBilling() *billing {
	return &billing{gobreaker.NewCircuitBreaker[string](gobreaker.Settings{Name: "billing"})}
}

func (b *billing) invoice(ctx context.Context, order int) (invoice string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second) // of all
	defer cancel()
	for attempt := range 3 {
		invoice, err = b.breaker.Execute(func() (string, error) {
			ctx, cancel := context.WithTimeout(ctx, time.Second) // of one attempt
			defer cancel()
			return ask(ctx, order)
		})
		if err == nil {
			return invoice, nil
		}
		select { // no jitter, no budget: every caller comes back at the same moment
		case <-time.After(time.Millisecond << attempt):
		case <-ctx.Done():
			return "", ctx.Err()
		}
	}
	return "", err
}

// ANCHOR_END: breaker

type prices struct {
	lives  int
	second chan struct{}
}

func (p *prices) next(ctx context.Context) error {
	p.lives++
	if p.lives == 1 {
		return errors.New("connection reset")
	}
	close(p.second)
	<-ctx.Done()
	return ctx.Err()
}

func ask(_ context.Context, order int) (string, error) {
	if order == 0 {
		return "", errors.New("connection refused")
	}
	return "order 7", nil
}

func TestAFeedThatFallsIsStartedAgain(t *testing.T) {
	prices := &prices{second: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	ended := feeds(prices).ServeBackground(ctx)
	<-prices.second
	cancel()
	<-ended
}

func TestAnUpstreamThatFailsIsLeftAlone(t *testing.T) {
	billing := newBilling()
	if got, err := billing.invoice(t.Context(), 7); err != nil || got != "order 7" {
		t.Fatal(got, err)
	}
	for range 2 {
		billing.invoice(t.Context(), 0)
	}
	if _, err := billing.invoice(t.Context(), 7); !errors.Is(err, gobreaker.ErrOpenState) {
		t.Fatal(err)
	}
}
