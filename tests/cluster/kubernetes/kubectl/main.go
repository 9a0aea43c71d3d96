// Command kubectl is kubectl of the version of the test cluster. It is apart from
// the components, whose packages take longer to initialize than most of its
// commands take.
package main

import (
	"k8s.io/component-base/cli"
	"k8s.io/kubectl/pkg/cmd"
	"k8s.io/kubectl/pkg/cmd/util"
)

func main() {
	// kubectl words its errors itself and has exit codes of its own.
	if err := cli.RunNoErrOutput(cmd.NewDefaultKubectlCommand()); err != nil {
		util.CheckErr(err)
	}
}
