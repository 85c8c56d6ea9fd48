package integration

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// axeSource is the program that looks for what keeps people out.
var axeSource = sync.OnceValues(func() (string, error) {
	source, err := os.ReadFile(filepath.Join("node", "node_modules", "axe-core", "axe.min.js"))
	if err != nil {
		return "", fmt.Errorf("these tests need axe-core: run scripts/services, or npm ci in integration/node: %w", err)
	}
	return string(source), nil
})

// violation is a rule of axe's that a page breaks.
type violation struct {
	ID, Help string
	Nodes    []struct{ HTML, FailureSummary string }
}

// requireAccessible demands that axe-core finds nothing on the page, best practices
// included.
func (b *tab) requireAccessible(name string) {
	b.t.Helper()
	source, err := axeSource()
	require.NoError(b.t, err)
	b.do(chromedp.Evaluate[chromedp.Void](source))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	const run = "axe.run().then(r => ({violations: r.violations, passes: r.passes.length}))"
	found, err := chromedp.Run(ctx, chromedp.Evaluate[struct {
		Violations []violation
		Passes     int
	}](run, chromedp.EvalAwaitPromise))
	require.NoError(b.t, err)
	assert.Greater(b.t, found.Passes, 10, "%s: rules that axe has looked at", name)
	var said []string
	for _, v := range found.Violations {
		for _, n := range v.Nodes {
			said = append(said, fmt.Sprintf("%s (%s): %s\n%s", v.ID, v.Help, n.HTML, n.FailureSummary))
		}
	}
	assert.Empty(b.t, said, "%s:\n%s", name, strings.Join(said, "\n"))
}

// speak sets the language that the browser asks for.
func (b *tab) speak(language string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, network.Enable, network.EnableParams{})
	require.NoError(b.t, err)
	_, err = chromedp.Call(b.ctx, network.SetExtraHTTPHeaders, network.SetExtraHTTPHeadersParams{
		Headers: network.Headers{"Accept-Language": language},
	})
	require.NoError(b.t, err)
}
