package jobstest_test

import (
	"reflect"
	"testing"
)

// equal compares what can be compared, and lists: an empty one is like none.
func equal[T any](t testing.TB, got, want T) {
	t.Helper()
	g, w := reflect.ValueOf(got), reflect.ValueOf(want)
	if g.Kind() == reflect.Slice && g.Len() == 0 && w.Len() == 0 {
		return
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}
