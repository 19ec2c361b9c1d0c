package tunnel

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// muxLog takes what yamux prints. All of it is for us: what matters to others
// they hear as errors.
type muxLog struct{ log *slog.Logger }

// Print is part of yamux.Logger.
func (l muxLog) Print(v ...any) { l.line(fmt.Sprint(v...)) }

// Printf is part of yamux.Logger.
func (l muxLog) Printf(format string, v ...any) { l.line(fmt.Sprintf(format, v...)) }

// Println is part of yamux.Logger.
func (l muxLog) Println(v ...any) { l.line(fmt.Sprintln(v...)) }

func (l muxLog) line(text string) {
	l.log.Debug("mux", slog.String(logkey.Message, strings.TrimSpace(text)))
}
