package accel

import (
	_ "embed"
	"fmt"
	"sync"
)

//go:embed advisories.yaml
var advisoriesYAML []byte

// table is the table that this program carries, read at its first use.
var table = sync.OnceValue(func() []bulletin {
	bulletins, err := parseBulletins(advisoriesYAML)
	if err != nil {
		panic(fmt.Sprintf("advisories.yaml: %v", err)) // it is a part of the program, and a test reads it
	}
	return bulletins
})
