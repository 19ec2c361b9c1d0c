package hubapi

import (
	"context"
	"iter"
	"net/url"
)

// List is one page.
type List[T any] struct {
	Items []T `json:"items" nullable:"false" doc:"The page's items; empty when there are none."`
	// Next is the cursor of the page after this; empty on the last.
	Next string `json:"next,omitempty" doc:"Cursor of the next page; absent on the last."`
}

// PageOptions choose a page. The zero value is the first, of the hub's size.
type PageOptions struct {
	// Limit is the most items of one page: 1 to 1000, default 100.
	Limit int
	// Cursor is List.Next of the page before.
	Cursor string
}

func (p PageOptions) query() url.Values {
	q := url.Values{}
	setInt(q, "limit", int64(p.Limit))
	setString(q, "cursor", p.Cursor)
	return q
}

// all walks over every page. It ends after the first error, which it yields.
func all[T any](ctx context.Context, page PageOptions,
	get func(context.Context, PageOptions) (List[T], error),
) iter.Seq2[T, error] {
	return func(yield func(T, error) bool) {
		for {
			l, err := get(ctx, page)
			if err != nil {
				var zero T
				yield(zero, err)
				return
			}
			for _, item := range l.Items {
				if !yield(item, nil) {
					return
				}
			}
			if l.Next == "" {
				return
			}
			page.Cursor = l.Next
		}
	}
}

// Collect gathers what an iterator yields, up to its first error.
func Collect[T any](seq iter.Seq2[T, error]) ([]T, error) {
	var out []T
	for item, err := range seq {
		if err != nil {
			return out, err
		}
		out = append(out, item)
	}
	return out, nil
}
