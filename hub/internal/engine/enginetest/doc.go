// Package enginetest is the suite that every workflow engine has to pass, with
// real processes that are really killed.
//
//	the test's process                        worker processes, 1 to 3
//	  Exercise ── Engine: Start, Raise … ───► the engine ◄─── Engine.Run with
//	     │                                                    Register's functions
//	  Director ◄── Unix socket: "step b of instance x begins" ── activity
//	     └───────── reply: value, error … when the test says so ─► returns it
//
// What an activity does, and when it is done, the test decides: every activity
// asks the Director and waits for its answer. So a test knows that a worker is
// in the middle of a step when it kills it, counts who ran what, and never
// sleeps.
//
// A package that has an engine calls Main in its TestMain, which makes of the
// test's program the worker as well, and Exercise in a test.
package enginetest
