package hami

import (
	"bytes"
	"errors"
	"io"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
)

// limits bound what is read of one source.
type limits struct {
	bytes, line             int
	series, devices, slices int
	badLines                int
}

// bounds are for a cluster of 2,000 nodes with 8 GPUs in 4 slices each: the
// scheduler's text has about 200 bytes for each of 15 series of a GPU.
func bounds() limits {
	return limits{bytes: 64 << 20, line: 64 << 10, series: 1 << 19, devices: 1 << 14, slices: 1 << 16, badLines: 100}
}

// scanner reads Prometheus's text format in pieces of whole lines, so that it
// needs memory for one piece however long the text is. A line that the parser
// refuses is left out, and the rest is read.
type scanner struct {
	limits
	ledger *ledger
	// take gets each series: its name, and the parser that stands at it.
	take    func(name []byte, at textparse.Parser)
	symbols *labels.SymbolTable
	seen    int
}

var errEnough = errors.New("enough")

// scan reports whether the text was read to its end.
func (s *scanner) scan(text io.Reader) bool {
	s.symbols = labels.NewSymbolTable()
	buf := make([]byte, s.line)
	held, total, skipping := 0, 0, false
	for {
		n, err := fill(text, buf[held:])
		held, total = held+n, total+n
		end := bytes.LastIndexByte(buf[:held], '\n')
		switch {
		case total > s.bytes:
			s.ledger.note("the text is longer than "+strconv.Itoa(s.bytes>>20)+" MiB, and the rest was not read", "")
			return false
		case end >= 0:
			piece := buf[: end : end+1] // the parser ends it with a newline, and finds one there
			if skipping {
				piece = piece[min(bytes.IndexByte(buf[:held], '\n')+1, end):]
			}
			if skipping = false; s.piece(piece) != nil {
				return false
			}
			held = copy(buf, buf[end+1:held])
		case held == len(buf):
			if !skipping {
				s.ledger.note("a line longer than "+strconv.Itoa(s.line)+" bytes was left out", quoted(string(buf[:maxQuoted])))
			}
			held, skipping = 0, true
		}
		if err == nil {
			continue
		}
		if errors.Is(err, io.EOF) && held == 0 && !skipping {
			return true
		}
		if errors.Is(err, io.EOF) {
			s.ledger.note("the text ends in the middle of a line, which was left out", quoted(string(buf[:held])))
			return false
		}
		s.ledger.note("the text could not be read to its end", quoted(err.Error()))
		return false
	}
}

// fill reads until the buffer is full: few large pieces cost less than many small
// ones.
func fill(text io.Reader, buf []byte) (int, error) {
	n := 0
	for n < len(buf) {
		k, err := text.Read(buf[n:])
		if n += k; err != nil {
			return n, err
		}
	}
	return n, nil
}

// piece reads lines, the last one without its newline and with room for one. The
// error is errEnough.
func (s *scanner) piece(lines []byte) error {
	for len(lines) > 0 {
		last, err := s.parse(lines)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if errors.Is(err, errEnough) {
			return err
		}
		bad, rest := afterBad(lines, last)
		s.ledger.note("a line that is not in Prometheus's text format was left out", quoted(string(bad)))
		if s.badLines--; s.badLines == 0 {
			s.ledger.note("there are too many such lines, and the rest was not read", "")
			return errEnough
		}
		lines = rest
	}
	return nil
}

// afterBad finds the line that the parser refused, which is the first after the
// last that it took, and what follows it. The parser gives parts of what it got,
// so how much is behind a part tells where it is.
func afterBad(lines, last []byte) (bad, rest []byte) {
	if last != nil {
		at := cap(lines) - cap(last)
		end := bytes.IndexByte(lines[at:], '\n')
		if end < 0 {
			return nil, nil
		}
		lines = lines[at+end+1:]
	}
	lines = lines[len(lines)-len(bytes.TrimLeft(lines, " \t\n")):]
	end := bytes.IndexByte(lines, '\n')
	if end < 0 {
		return lines, nil
	}
	return lines[:end], lines[end+1:]
}

// parse reads lines until one is refused, and returns a part of the last that it
// took.
func (s *scanner) parse(lines []byte) (last []byte, err error) {
	p := textparse.NewPromParser(lines, s.symbols, false)
	for {
		entry, err := p.Next()
		if err != nil {
			return last, err
		}
		switch entry {
		case textparse.EntrySeries:
			if s.seen++; s.seen > s.series {
				s.ledger.note("there are more than "+strconv.Itoa(s.series)+" series, and the rest was not read", "")
				return last, errEnough
			}
			last, _, _ = p.Series()
			s.take(nameOf(last), p)
		case textparse.EntryHelp:
			last, _ = p.Help()
		case textparse.EntryType:
			last, _ = p.Type()
		case textparse.EntryComment:
			last = p.Comment()
		default: // the text format has no others
		}
	}
}

// nameOf is the name in front of a series' labels. It is empty for one inside the
// braces, which HAMi's names do not need.
func nameOf(series []byte) []byte {
	if end := bytes.IndexByte(series, '{'); end >= 0 {
		series = series[:end]
	}
	return bytes.TrimSpace(series)
}
