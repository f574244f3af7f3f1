//go:build !linux

package blob

import "os"

// syncAll makes the named files and folders durable, one by one.
func syncAll(_ *os.File, names []string) error {
	for _, name := range names {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		err = f.Sync()
		f.Close()
		if err != nil {
			return err
		}
	}
	return nil
}
