package bucket

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
)

// Link is a CID inside a DAG-CBOR blob or a JSON text; the zero value is null.
type Link struct{ cid.Cid }

// MarshalJSON writes the link as plain text.
func (l Link) MarshalJSON() ([]byte, error) {
	if !l.Defined() {
		return []byte("null"), nil
	}
	return json.Marshal(l.String())
}

// UnmarshalJSON reads a link in the one form that MarshalJSON writes.
func (l *Link) UnmarshalJSON(text []byte) (err error) {
	if string(text) == "null" {
		*l = Link{}
		return nil
	}
	var s string
	if err := json.Unmarshal(text, &s); err != nil {
		return err
	}
	l.Cid, err = blob.Parse(s)
	return err
}

// A link is tag 42 around a byte string that is 0x00 and the CID. All of ours
// are 36 bytes long, so that what stands before it never changes.
// https://ipld.io/specs/codecs/dag-cbor/spec/#links
var linkHead = []byte{0xd8, 42, 0x58, 37, 0x00}

const cborNull = 0xf6

// MarshalCBOR writes the link as DAG-CBOR.
func (l Link) MarshalCBOR() ([]byte, error) {
	if !l.Defined() {
		return []byte{cborNull}, nil
	}
	if err := blob.Check(l.Cid); err != nil {
		return nil, err
	}
	return append(bytes.Clone(linkHead), l.Bytes()...), nil
}

// UnmarshalCBOR reads a link that MarshalCBOR wrote and no other.
func (l *Link) UnmarshalCBOR(data []byte) error {
	if len(data) == 1 && data[0] == cborNull {
		*l = Link{}
		return nil
	}
	raw, ok := bytes.CutPrefix(data, linkHead)
	if !ok {
		return errors.New("not a link to a blob")
	}
	c, err := cid.Cast(raw)
	if err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if err := blob.Check(c); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	*l = Link{c}
	return nil
}

var (
	encMode = mustMode(cbor.EncOptions{
		Sort:          cbor.SortLengthFirst,
		IndefLength:   cbor.IndefLengthForbidden,
		NilContainers: cbor.NilContainerAsEmpty,
	}.EncMode())
	decMode = mustMode(cbor.DecOptions{
		DupMapKey:         cbor.DupMapKeyEnforcedAPF,
		IndefLength:       cbor.IndefLengthForbidden,
		ExtraReturnErrors: cbor.ExtraDecErrorUnknownField,
		FieldNameMatching: cbor.FieldNameMatchingCaseSensitive,
		MaxNestedLevels:   8,
	}.DecMode())
)

func mustMode[T any](mode T, err error) T {
	if err != nil {
		panic(err) // options are constants
	}
	return mode
}

// encode writes v as DAG-CBOR, which has one encoding for each value.
func encode(v any) ([]byte, error) { return encMode.Marshal(v) }

// decode reads a blob into v, and refuses one that encode would not have
// written just so: otherwise one value could have several links.
func decode(data []byte, v any) error {
	if len(data) > blob.MaxSize {
		return blob.ErrTooLarge
	}
	if err := decMode.Unmarshal(data, v); err != nil {
		return err
	}
	again, err := encode(v)
	if err != nil {
		return err
	}
	if !bytes.Equal(again, data) {
		return errors.New("not in canonical form")
	}
	return nil
}
