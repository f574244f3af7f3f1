// Package peer is how one home talks to another: its identity, its address
// book, and both ends of the HTTPS API of a peer.
//
// It promises:
//
//   - A home has one identity. However many processes make it at once, all of
//     them end up with the same key, and it is on disk before any uses it.
//   - Both ends prove their Ed25519 key in TLS 1.3. A client talks only to the
//     holder of the key that it expects; a server answers only those in its
//     address book, looked up at each request. To all others it says 403.
//   - What is about a bucket (its links, its manifests) is told only to those
//     in the shares of our own head of it. All others get what they would get
//     if there were no such bucket.
//   - A server sends no block whose bytes do not match its CID, and
//     [Client.Get] returns none.
//   - A call ends: it is bounded by a time without progress, and what it reads
//     by a size.
//
// It does not hide who talks to whom, nor the sizes of blobs. A raw block is
// served to every peer in the address book that can name it: what it says is
// sealed (see package bucket). A deadline for a whole call is the caller's, by
// its context.
package peer
