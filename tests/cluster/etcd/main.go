// Command etcd is etcd as released. `go install` refuses its own main package
// because of the replace directives beside it, so this one calls the same entry.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
