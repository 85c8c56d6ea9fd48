package integration

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// patience is how long something may take that takes no time on an idle machine.
const patience = 60 * time.Second

// programs is the directory of the programs under test.
var programs string

func TestMain(m *testing.M) {
	// Parallel tests wait more than they work. The command line overrides this.
	if err := flag.Set("test.parallel", "16"); err != nil {
		panic(err)
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "integration")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	programs = dir
	build := exec.Command("go", "build", raceFlag, "-o", dir,
		"./authserver", "./cli", "./quickstart", "./zitadel", "./fosite", "./gooauth2", "./stdlib")
	build.Dir = filepath.Join("..", "examples")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building the examples: %v\n%s", err, out)
		return 1
	}
	defer closeBrowser()
	return m.Run()
}
