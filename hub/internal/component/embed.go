package component

import (
	"embed"
	"io/fs"
)

//go:embed catalogue/*.yaml
var files embed.FS

// embedded is the catalogue that this program carries.
func embedded() fs.FS {
	folder, err := fs.Sub(files, "catalogue")
	if err != nil {
		panic(err) // the name is a constant
	}
	return folder
}
