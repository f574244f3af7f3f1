package sqlite

// The commands of open file description locks, as <sys/fcntl.h> numbers them;
// x/sys has no names for them here.
const (
	ofdSetLock = 90
	ofdGetLock = 92
)
