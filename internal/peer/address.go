package peer

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"unicode"
)

// parseURL accepts https://host:port and nothing more, and returns it in the
// one spelling that is stored.
func parseURL(s string) (string, error) {
	u, err := url.Parse(s)
	if err != nil {
		return "", fmt.Errorf("%q is no URL: want https://host:port", s)
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	bare := url.URL{Scheme: "https", Host: u.Host}
	if err != nil || port == 0 || u.Hostname() == "" || !strings.EqualFold(strings.TrimSuffix(s, "/"), bare.String()) {
		return "", fmt.Errorf("%q is no peer's URL: want https://host:port", s)
	}
	return strings.ToLower(bare.String()), nil
}

// oneLine makes s fit for a person's line and a text column: valid UTF-8, no
// control characters, at most limit bytes.
func oneLine(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > limit {
		s = strings.ToValidUTF8(s[:limit], "")
	}
	return strings.TrimSpace(s)
}
