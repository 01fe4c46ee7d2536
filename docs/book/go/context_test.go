// The Go code of the chapter "Coming from Go": `go vet ./... && go test ./...` in this directory compiles and runs it.
package book

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"
)

// ANCHOR: context
func page(ctx context.Context, user string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	return fetch(ctx, user)
}

func fetch(ctx context.Context, user string) (string, error) {
	select {
	case <-time.After(10 * time.Millisecond):
		return "the page of " + user, nil
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// ANCHOR_END: context

func TestADeadlineOfTheCallerReachesTheInnermostWait(t *testing.T) {
	if got, err := page(t.Context(), "ann"); err != nil || got != "the page of ann" {
		t.Fatal(got, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Nanosecond)
	defer cancel()
	if _, err := page(ctx, "ann"); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
}

// ANCHOR: values
type requestID struct{}

func handle(ctx context.Context, id uint64) string {
	return log(context.WithValue(ctx, requestID{}, id), "charged")
}

func log(ctx context.Context, what string) string {
	if id, ok := ctx.Value(requestID{}).(uint64); ok {
		return fmt.Sprintf("request %d: %s", id, what)
	}
	return what
}

// ANCHOR_END: values

func TestAValueGoesDownTheCalls(t *testing.T) {
	if got := handle(t.Context(), 7); got != "request 7: charged" {
		t.Fatal(got)
	}
}

// ANCHOR: shielded
func session(ctx context.Context, sayGoodbye func(context.Context)) error {
	<-ctx.Done() // the session
	goodbye, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	sayGoodbye(goodbye)
	return context.Cause(ctx)
}

// ANCHOR_END: shielded

func TestACancelledSessionSaysGoodbye(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the lid was closed"))
	said := false
	err := session(ctx, func(ctx context.Context) { said = ctx.Err() == nil })
	if !said || err.Error() != "the lid was closed" {
		t.Fatal(said, err)
	}
}
