//go:build linux && !race

package torture_test

const raceDetector = false
