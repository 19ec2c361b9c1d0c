package main

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// adoptKlog sends what client-go logs to our log, as debug: an idle agent is
// silent, and what client-go finds an error it retries. With the API server
// away that is two lines a second; we say it once.
func adoptKlog(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(demoted{log.With(slog.String(logkey.Component, "client-go")).Handler()}))
}

type demoted struct{ slog.Handler }

func (d demoted) Enabled(ctx context.Context, _ slog.Level) bool {
	return d.Handler.Enabled(ctx, slog.LevelDebug)
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	if !d.Enabled(ctx, slog.LevelDebug) { // klog does not ask
		return nil
	}
	r.Level = slog.LevelDebug
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }
