// Package lease keeps what is held for a limited time, and says in time that
// it no longer is.
//
// A lease is held until it ends; who holds it renews it before that. A holder
// must never believe in a lease longer than the one who granted it does, so
// the holder counts from the moment at which it *asked* (the grant came later)
// and stops a margin early:
//
//	ask ──► granted                                        ends
//	 │         │◄──────────────── ttl ───────────────────────►│
//	 │◄─────────── trusted: ttl − margin ───────────►│
//	 ask+0   renew at ask+ttl/3, again at ask+2·ttl/3
//
// The package guarantees that the context of Keep and of Lead's work ends, with
// the cause ErrLost, at that trust deadline or as soon as the grantor says that
// the lease is gone. It can't stop code that ignores its context, nor a process
// that the kernel has stopped: for those there is the token (a fencing number,
// which grows with every change of hands), and whoever acts on the lease's
// behalf must have it checked where the act is carried out.
//
// It knows no jobs and no SQL, and compares durations only: on the machine
// itself that is the kernel's monotonic clock, which no one can set.
package lease
