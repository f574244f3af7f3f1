// Package sqlitetx puts jobs into a transaction of the application's own, made
// with any SQLite driver: an order's row and the job that ships it are there
// both or not at all, and the fleet sees the job when that transaction commits.
//
// It needs the file that holds the queue's tables, which a worker, enqueuer or
// store.Open makes there; it opens nothing and imports no driver. SQLite has to
// be 3.38 or newer.
//
// What it does not promise:
//
//   - Durability is the transaction's own: as good as its connection's setting.
//     With synchronous=NORMAL a commit that returned may be gone after a power
//     cut, and NORMAL is what some drivers set; ask for FULL.
//   - The limit of pending jobs (--max-pending) does not bind it, as it does not
//     bind plain SQL.
//   - While the transaction is open after Enqueue it holds SQLite's one write
//     lock: keep it short. Who has read first in it may be told SQLITE_BUSY at
//     the Enqueue, which waiting can't mend; begin it IMMEDIATE. Set a busy
//     timeout, as others write too.
//   - A queue in another file than the rest, by way of ATTACH: in WAL mode a
//     power cut can then leave the one without the other.
//
// A process that has the file open with store.Open must not open it with another
// SQLite library too: closing one descriptor drops the other library's POSIX
// locks, and commits are lost. On Linux store.Open refuses where it sees such a
// lock, which is from that library's first read on. It does not see a library
// that has not read the file yet, nor one that comes after it. So it is either
// another driver and no store.Open in the process, or store.Open beside a pool
// of github.com/ncruces/go-sqlite3. Each process may have a library of its own.
package sqlitetx
