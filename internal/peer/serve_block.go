package peer

import (
	"bytes"
	"errors"
	"mime"
	"net/http"
	"strings"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// serveBlock is GET and HEAD /ipfs/{cid}, by the IPFS Trustless Gateway
// specification, of which only raw blocks are here.
func (s *Server) serveBlock(w http.ResponseWriter, r *http.Request) {
	c, err := blob.Parse(r.PathValue("cid"))
	if err != nil {
		http.Error(w, "not a CID of this network", http.StatusBadRequest)
		return
	}
	if !wantsRaw(r) {
		http.Error(w, "only format=raw is served", http.StatusBadRequest)
		return
	}
	// Whole and verified before the first byte goes out, for a HEAD too.
	data, err := s.o.Blobs.Get(c)
	if errors.Is(err, blob.ErrNotFound) {
		notFound(w)
		return
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	// All blobs but manifests are sealed, or lists of sealed ones: a peer that
	// can name one may have it.
	if c.Type() == cid.DagCBOR {
		if m, err := bucket.DecodeManifest(data); err == nil && !s.forSharers(w, r, m.Bucket) {
			return
		}
	}
	h := w.Header()
	h.Set("Content-Type", rawType)
	h.Set("Content-Disposition", `attachment; filename="`+c.String()+`.bin"`)
	h.Set("Etag", `"`+c.String()+`.raw"`)
	h.Set("Cache-Control", "public, max-age=29030400, immutable") // Path Gateway, section Cache-Control
	h.Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
}

// wantsRaw reports whether a raw block is asked for: by the parameter format,
// which counts first, or by an Accept that names it.
func wantsRaw(r *http.Request) bool {
	if f := r.URL.Query().Get("format"); f != "" {
		return f == "raw"
	}
	for part := range strings.SplitSeq(r.Header.Get("Accept"), ",") {
		if t, _, err := mime.ParseMediaType(part); err == nil && t == rawType {
			return true
		}
	}
	return false
}
