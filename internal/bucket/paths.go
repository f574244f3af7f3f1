package bucket

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// maxPath bounds a path and a symbolic link's target, in bytes: PATH_MAX.
const maxPath = 4096

// checkPath refuses a path that is not relative, clean UTF-8 in NFC. Only then
// do equal names look equal and mean the same file on every system.
func checkPath(p string) error {
	switch {
	case !utf8.ValidString(p):
		return errors.New("the name is not UTF-8; rename it")
	case !norm.NFC.IsNormalString(p):
		return errors.New("the name is not in Unicode NFC; rename it")
	case !fs.ValidPath(p) || p == "." || strings.ContainsRune(p, 0):
		return errors.New("not a clean relative path")
	case len(p) > maxPath:
		return fmt.Errorf("the path is longer than %d bytes", maxPath)
	}
	return nil
}

// checkTarget refuses the target of the symbolic link at p if it may lead out
// of the folder. It allows ".." at the target's start only: after a name, which
// can be a symbolic link itself, nobody knows without looking where ".." leads.
// The folders above p are none, as checkTree sees to.
func checkTarget(p, target string) error {
	if target == "" || len(target) > maxPath || !utf8.ValidString(target) || strings.ContainsRune(target, 0) {
		return errors.New("a symbolic link with a target that is not a path")
	}
	out, named := strings.HasPrefix(target, "/"), false
	depth := strings.Count(p, "/")
	for part := range strings.SplitSeq(target, "/") {
		switch part {
		case "", ".":
		case "..":
			depth--
			out = out || named || depth < 0
		default:
			named = true
		}
	}
	if out {
		return fmt.Errorf("a symbolic link to %q, which may lead out of the folder", target)
	}
	return nil
}
