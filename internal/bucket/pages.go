package bucket

import (
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"
	"lukechampine.com/blake3"

	"github.com/shoal-project/shoal/internal/blob"
)

// A list (of a tree's entries, of pins) is an index of links to pages, both
// arrays in DAG-CBOR. Where a page ends is decided by its last item's key
// alone, or by its size: adding, changing or removing an item changes one page
// or two, wherever in the list it stands, and so little travels.
const (
	pageBytes = 1 << 20 // a page ends before it is longer
	pageMean  = 256     // items of a page, about
	// maxPages is how many links fit in an index.
	maxPages = (blob.MaxSize - 16) / 41
)

// pager writes a list. put stores a page, or at last the index.
type pager struct {
	put   func(data []byte, index bool) (cid.Cid, error)
	page  []cbor.RawMessage
	size  int
	index []Link
}

// add appends an item; items come in the order of their keys.
func (p *pager) add(key string, item any) error {
	raw, err := encode(item)
	if err != nil {
		return err
	}
	if p.size+len(raw) > pageBytes {
		if err := p.flush(); err != nil {
			return err
		}
	}
	p.page = append(p.page, raw)
	p.size += len(raw)
	if sum := blake3.Sum256([]byte(key)); (int(sum[0])<<8|int(sum[1]))%pageMean == 0 {
		return p.flush()
	}
	return nil
}

func (p *pager) flush() error {
	if len(p.page) == 0 {
		return nil
	}
	if len(p.index) == maxPages {
		return fmt.Errorf("list of more than %d pages", maxPages)
	}
	data, err := encode(p.page)
	if err != nil {
		return err
	}
	c, err := p.put(data, false)
	if err != nil {
		return err
	}
	p.index = append(p.index, Link{c})
	p.page, p.size = nil, 0
	return nil
}

// finish writes what is left and the index, and returns the index's link.
func (p *pager) finish() (cid.Cid, error) {
	if err := p.flush(); err != nil {
		return cid.Undef, err
	}
	data, err := encode(p.index)
	if err != nil {
		return cid.Undef, err
	}
	return p.put(data, true)
}

// pagesOf reads an index. It is at most a blob long, which bounds the list.
func pagesOf(index []byte) ([]cid.Cid, error) {
	pages, err := linksOf(index)
	if err != nil {
		return nil, fmt.Errorf("index: %w", err)
	}
	seen := make(map[cid.Cid]bool, len(pages))
	for _, c := range pages {
		if seen[c] {
			return nil, errors.New("index: a page comes twice")
		}
		seen[c] = true
	}
	return pages, nil
}

func linksOf(data []byte) ([]cid.Cid, error) {
	var links []Link
	if err := decode(data, &links); err != nil {
		return nil, err
	}
	cids := make([]cid.Cid, len(links))
	for i, l := range links {
		if !l.Defined() {
			return nil, errors.New("null for a link")
		}
		cids[i] = l.Cid
	}
	return cids, nil
}
