package cluster

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// state is everything needed to find and remove what was made. It is written
// before the thing is, so it may name more than there is, never less.
type state struct {
	Name  string       `json:"name"`
	Slot  int          `json:"slot"` // -1: not yet taken
	Owner *proc        `json:"owner,omitempty"`
	Procs []proc       `json:"procs,omitempty"`
	Nodes []*nodeState `json:"nodes,omitempty"`
	Ready bool         `json:"ready"`
	// Bin is where the programs are, for nodes that start later.
	Bin map[string]string `json:"bin,omitempty"`
}

// nodeState is one node's place.
type nodeState struct {
	Name  string `json:"name"`
	Index int    `json:"index"`
	Proc  *proc  `json:"proc,omitempty"` // nil: stopped
}

// proc is a process that can be told from a later one with the same number.
type proc struct {
	Name  string `json:"name"`
	PID   int    `json:"pid"`
	Start uint64 `json:"start"` // in clock ticks since boot
}

const stateFile = "state.json"

func readState(dir string) (*state, error) {
	content, err := os.ReadFile(filepath.Join(dir, stateFile))
	if err != nil {
		return nil, err
	}
	s := &state{Slot: -1}
	if err := json.Unmarshal(content, s); err != nil {
		return nil, fmt.Errorf("read %s: %w", filepath.Join(dir, stateFile), err)
	}
	return s, nil
}

func (s *state) write(dir string) error {
	content, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	path := filepath.Join(dir, stateFile)
	if err := os.WriteFile(path+".new", content, 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// procOf notes who runs under a process number now.
func procOf(name string, pid int) proc {
	start, _, _ := procStat(pid)
	return proc{Name: name, PID: pid, Start: start}
}

// alive says whether this very process still runs; a zombie does not.
func (p proc) alive() bool {
	start, status, err := procStat(p.PID)
	return err == nil && start == p.Start && status != "Z" && status != "X"
}

// kill ends the process if it is still the one that was recorded.
func (p proc) kill() error {
	if !p.alive() {
		return nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("kill %s (process %d): %w", p.Name, p.PID, err)
	}
	return nil
}

// procStat reads when a process started and how it is.
func procStat(pid int) (start uint64, status string, err error) {
	content, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, "", err
	}
	// The name in parentheses may hold anything: count from its end.
	end := bytes.LastIndexByte(content, ')')
	if end < 0 {
		return 0, "", fmt.Errorf("process %d: unreadable stat", pid)
	}
	fields := strings.Fields(string(content[end+1:]))
	if len(fields) < 20 {
		return 0, "", fmt.Errorf("process %d: short stat", pid)
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0], err
}

func missing(err error) bool {
	return errors.Is(err, fs.ErrNotExist)
}
