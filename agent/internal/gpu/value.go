package gpu

import "fmt"

// Value is a T, or unknown, which is its zero value. It costs no allocation,
// which a pointer for each of a hundred numbers would.
type Value[T any] struct {
	// V is the zero value of T unless Known.
	V     T
	Known bool
}

// Known is a Value that holds v.
func Known[T any](v T) Value[T] { return Value[T]{V: v, Known: true} }

// Get returns the value and whether there is one.
func (v Value[T]) Get() (T, bool) { return v.V, v.Known }

// String is the value, or a question mark.
func (v Value[T]) String() string {
	if !v.Known {
		return "?"
	}
	return fmt.Sprint(v.V)
}
