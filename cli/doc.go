// Package cli is the `budcluster` command: everything that an operator does,
// over hubapi and nothing else.
//
//	Run ─► cobra ─► app.connect (flags > environment > context) ─► hubapi.Client
//	         │                                                        │
//	         └── printer: table, wide, json, yaml, name ◄─────────────┘
//	             progress: in place on a terminal, lines elsewhere
//
// What a command prints goes to Out and can be piped; what it says beside that
// (warnings, questions, progress on a terminal) goes to Err. Keys and secret
// values come from files or a prompt, never from an argument, which anybody on
// the machine could read.
//
// The exit status says what kind of failure it was: exit.go has the list.
package cli
