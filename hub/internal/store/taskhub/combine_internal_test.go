package taskhub

import (
	"context"
	"errors"
	"io"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
)

// table is what a combiner writes to.
type table struct {
	mu      sync.Mutex // guards all below
	batches [][]int
	fail    func(ops []int) error
	takes   time.Duration
}

func (w *table) flush(_ context.Context, ops []int) error {
	time.Sleep(w.takes)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.fail != nil {
		if err := w.fail(ops); err != nil {
			return err
		}
	}
	w.batches = append(w.batches, slices.Clone(ops))
	return nil
}

// do asks for many ops at the same time and returns what became of each.
func do(ctx context.Context, c *combiner[int], n int, alone func(int) bool, patience time.Duration) []error {
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = c.do(ctx, i, alone != nil && alone(i), time.Now().Add(patience)) })
		synctest.Wait() // in order
	}
	wg.Wait()
	return errs
}

func TestCombinerBatchesWhatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &table{takes: time.Second}
		c := &combiner[int]{flush: w.flush}
		began := time.Now()
		for _, err := range do(t.Context(), c, 2+maxBatch, nil, 0) {
			require.NoError(t, err)
		}
		require.Equal(t, []int{0}, w.batches[0], "nobody waits for company")
		require.Len(t, w.batches[1], maxBatch)
		require.Len(t, w.batches[2], 1)
		require.Equal(t, 3*time.Second, time.Since(began))
		require.NoError(t, c.do(t.Context(), 7, false, time.Time{}), "and again from the beginning")
	})
}

func TestCombinerAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &table{takes: time.Second}
		c := &combiner[int]{flush: w.flush}
		for _, err := range do(t.Context(), c, 7, func(i int) bool { return i == 3 || i == 4 }, 0) {
			require.NoError(t, err)
		}
		require.Equal(t, [][]int{{0}, {1, 2}, {3}, {4}, {5, 6}}, w.batches)
	})
}

// One that cannot be written fails alone.
func TestCombinerIsolates(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		bad := errors.New("does not fit")
		w := &table{takes: time.Second, fail: func(ops []int) error {
			if slices.Contains(ops, 3) {
				return bad
			}
			return nil
		}}
		c := &combiner[int]{flush: w.flush}
		for i, err := range do(t.Context(), c, 6, nil, time.Hour) {
			if i == 3 {
				require.ErrorIs(t, err, bad)
				continue
			}
			require.NoError(t, err)
		}
	})
}

// While the database is away, each waits for as long as it has patience.
func TestCombinerWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		back := time.Now().Add(time.Minute)
		w := &table{fail: func([]int) error {
			if time.Now().Before(back) {
				return &pgconn.PgError{Code: "57P01"}
			}
			return nil
		}}
		c := &combiner[int]{flush: w.flush}
		impatient := make(chan error)
		began := time.Now()
		go func() { impatient <- c.do(t.Context(), 1, false, began.Add(2*time.Second)) }()
		require.NoError(t, c.do(t.Context(), 0, false, began.Add(time.Hour)))
		require.Less(t, time.Since(back), retryLimit+time.Second)
		require.Error(t, <-impatient)

		// Who is not waiting any more does not keep the op from its way.
		back = time.Now().Add(time.Minute)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, c.do(ctx, 2, false, time.Now().Add(time.Hour)), context.DeadlineExceeded)
		require.NoError(t, c.do(t.Context(), 3, false, time.Now().Add(time.Hour)))
		require.Contains(t, slices.Concat(w.batches...), 2)
	})
}

func TestAbsent(t *testing.T) {
	t.Parallel()
	for _, err := range []error{
		&pgconn.PgError{Code: "57P01"}, &pgconn.PgError{Code: "57P03"}, &pgconn.PgError{Code: "08006"}, &pgconn.PgError{Code: "40P01"},
		io.ErrUnexpectedEOF, context.DeadlineExceeded, errors.Join(io.EOF),
	} {
		require.True(t, absent(err), "%v", err)
	}
	for _, err := range []error{&pgconn.PgError{Code: "22021"}, &pgconn.PgError{Code: "42P01"}, errors.New("other")} {
		require.False(t, absent(err), "%v", err)
	}
}

func TestDelayAfter(t *testing.T) {
	t.Parallel()
	require.Equal(t, time.Second, delayAfter(0))
	require.Equal(t, 4*time.Second, delayAfter(2))
	require.Equal(t, 5*time.Minute, delayAfter(9))
	require.Equal(t, 5*time.Minute, delayAfter(1<<30))
	require.Equal(t, time.Second, delayAfter(-1))
}
