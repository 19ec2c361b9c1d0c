package main

import (
	"context"
	"log/slog"

	"k8s.io/klog/v2"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// adoptKlog sends what client-go logs to our log. What it finds informative is
// for us, so it becomes debug: an idle agent is silent.
func adoptKlog(log *slog.Logger) {
	klog.SetSlogLogger(slog.New(demoted{log.With(slog.String(logkey.Component, "client-go")).Handler()}))
}

type demoted struct{ slog.Handler }

func (d demoted) Enabled(ctx context.Context, level slog.Level) bool {
	return d.Handler.Enabled(ctx, demote(level))
}

func (d demoted) Handle(ctx context.Context, r slog.Record) error {
	level := demote(r.Level)
	if !d.Handler.Enabled(ctx, level) {
		return nil
	}
	r.Level = level
	return d.Handler.Handle(ctx, r)
}

func (d demoted) WithAttrs(attrs []slog.Attr) slog.Handler {
	return demoted{d.Handler.WithAttrs(attrs)}
}

func (d demoted) WithGroup(name string) slog.Handler { return demoted{d.Handler.WithGroup(name)} }

// demote keeps errors as warnings: client-go retries whatever it reports.
func demote(level slog.Level) slog.Level {
	if level >= slog.LevelError {
		return slog.LevelWarn
	}
	return min(level, slog.LevelDebug)
}
