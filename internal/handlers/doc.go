// Package handlers holds the job types that Shoal brings along, a file each,
// and their list.
//
// SyncBucket, DownloadPins and PingPeer keep buckets in sync with peers, by
// PROTOCOL.md: they check before they believe, write what they believe in one
// transaction with the job's completion, and can be run again at any time.
// Commands given on the command line handle other types (exec.go).
//
// What they can't do, because the network has no such thing: tell a peer that
// is gone from one that is silent. An unreachable peer is a PingPeer's result,
// and another source's turn for the others.
package handlers
