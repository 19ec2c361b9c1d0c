package engine

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/dapr/durabletask-go/backend"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// logger carries the library's lines to slog. Its Info is our Debug: that an
// instance began or ended is in the rows. Its Error is our Warn: the library
// says it of what it gives back to be tried again.
type logger struct {
	log   *slog.Logger
	debug bool
}

var _ backend.Logger = logger{}

func newLogger(ctx context.Context, log *slog.Logger) logger {
	return logger{log: log, debug: log.Enabled(ctx, slog.LevelDebug)}
}

// Debug is only for those who look.
func (l logger) Debug(v ...any) {
	if l.debug {
		l.log.Debug("durable task", slog.String(logkey.Message, fmt.Sprint(v...)))
	}
}

// Debugf is Debug with a format.
func (l logger) Debugf(format string, v ...any) {
	if l.debug {
		l.log.Debug("durable task", slog.String(logkey.Message, fmt.Sprintf(format, v...)))
	}
}

// Info is Debug: what it says is in the rows.
func (l logger) Info(v ...any) { l.Debug(v...) }

// Infof is Info with a format.
func (l logger) Infof(format string, v ...any) { l.Debugf(format, v...) }

// Warn says what went wrong and is tried again, or does not matter.
func (l logger) Warn(v ...any) {
	l.log.Warn("durable task", slog.String(logkey.Message, fmt.Sprint(v...)))
}

// Warnf is Warn with a format.
func (l logger) Warnf(format string, v ...any) {
	l.log.Warn("durable task", slog.String(logkey.Message, fmt.Sprintf(format, v...)))
}

// Error is Warn: what the library cannot do it gives back.
func (l logger) Error(v ...any) { l.Warn(v...) }

// Errorf is Error with a format.
func (l logger) Errorf(format string, v ...any) { l.Warnf(format, v...) }

// silent is for the library's listener, which comes and goes with each piece
// of work.
type silent struct{}

var _ backend.Logger = silent{}

func (silent) Debug(...any)          {}
func (silent) Debugf(string, ...any) {}
func (silent) Info(...any)           {}
func (silent) Infof(string, ...any)  {}
func (silent) Warn(...any)           {}
func (silent) Warnf(string, ...any)  {}
func (silent) Error(...any)          {}
func (silent) Errorf(string, ...any) {}
