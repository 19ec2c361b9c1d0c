package link

import "context"

// frame is one received message, or the end of the stream.
type frame[T any] struct {
	msg T
	err error
}

// receive turns Recv into a channel, so that one select can hear the peer, the
// clock and the cluster. The last frame has an error, and then the channel is
// closed. Its reader must read to the end, or drain it.
func receive[T any](recv func() (T, error)) <-chan frame[T] {
	out := make(chan frame[T])
	go func() {
		defer close(out)
		for {
			msg, err := recv()
			out <- frame[T]{msg: msg, err: err}
			if err != nil {
				return
			}
		}
	}()
	return out
}

// drain ends the stream and waits for receive to be done.
func drain[T any](in <-chan frame[T], cancel context.CancelFunc) {
	cancel()
	for range in { // nothing is left to do with them
	}
}
