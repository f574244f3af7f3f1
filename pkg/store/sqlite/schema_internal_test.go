package sqlite

import (
	"testing"

	"github.com/shoal-project/shoal/pkg/store/internal/insert"
)

// TestSchemaVersion: whoever adds a migration looks whether a job is still
// inserted rightly, as sqlitetx refuses a schema that it does not know.
func TestSchemaVersion(t *testing.T) {
	if insert.SchemaVersion != len(migrations) {
		t.Errorf("insert.SchemaVersion is %d, there are %d migrations", insert.SchemaVersion, len(migrations))
	}
}
