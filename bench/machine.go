package main

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
)

// machine describes what is measured on and with: processor, Go, and modules.
func machine() string {
	text := fmt.Sprintf("%s/%s, %s, %d cores, GOMAXPROCS=%d, %s", runtime.GOOS, runtime.GOARCH,
		processor(), runtime.NumCPU(), runtime.GOMAXPROCS(0), runtime.Version())
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return text
	}
	for _, module := range info.Deps {
		if slices.Contains(compared, module.Path) {
			text += ", " + module.Path + " " + module.Version
		}
	}
	return text
}

// compared are the modules of the peers.
var compared = []string{"github.com/zitadel/oidc/v3"}

// processor is the name of the processor, where Linux tells it.
func processor() string {
	info, _ := os.ReadFile("/proc/cpuinfo") // Elsewhere there is none.
	_, name, found := strings.Cut(string(info), "model name\t: ")
	if !found {
		return "unknown processor"
	}
	name, _, _ = strings.Cut(name, "\n")
	return name
}
