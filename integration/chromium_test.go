package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// What is on the pages.
const (
	codeField     chromedp.CSS = "#user_code"
	nameField     chromedp.CSS = "#username"
	passwordField chromedp.CSS = "#password"
	submitButton  chromedp.CSS = "form button"
	denyButton    chromedp.CSS = "button[value=deny]"
	approveButton chromedp.CSS = "button[value=approve]"
	reportButton  chromedp.CSS = "button[value=report]"
	switchButton  chromedp.CSS = "button[value=switch]"
	confirmBox    chromedp.CSS = "[name=confirm]"
	profileBox    chromedp.CSS = "[name=scope][value=profile]"
)

// chromium is the browser of all tests: a context to open tabs with.
var chromium = sync.OnceValues(startBrowser)

// stopBrowser is set once there is one.
var stopBrowser func() error

func startBrowser() (context.Context, error) {
	path := os.Getenv("CHROMIUM")
	if path == "" {
		path = "chromium"
	}
	path, err := exec.LookPath(path)
	if err != nil {
		return nil, fmt.Errorf("these tests need Chromium: install it, or name it in CHROMIUM: %w", err)
	}
	allocator, _ := chromedp.NewExecAllocator(context.Background(), // Its profile is temporary.
		chromedp.ExecPath(path), chromedp.NoFirstRun, chromedp.NoSandbox, chromedp.DisableGPU,
		chromedp.Flag("headless", "new"), chromedp.Flag("hide-scrollbars", true),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true), chromedp.Flag("force-color-profile", "srgb"))
	ctx, _ := chromedp.NewContext(allocator)
	if err := chromedp.Do(ctx); err != nil {
		return nil, fmt.Errorf("starting Chromium: %w", err)
	}
	stopBrowser = func() error { return chromedp.Cancel(ctx) }
	return ctx, nil
}

func closeBrowser() {
	if stopBrowser == nil {
		return
	}
	if err := stopBrowser(); err != nil {
		fmt.Fprintln(os.Stderr, "stopping Chromium:", err)
	}
}

// tab is one tab of a browser. What it is told to do has to work.
type tab struct {
	t   *testing.T
	ctx context.Context
}

// newTab opens a tab of a browser without cookies or history.
func newTab(t *testing.T) *tab {
	t.Helper()
	browser, err := chromium()
	if err != nil {
		t.Fatal(err)
	}
	return openTab(browser, t, chromedp.WithNewBrowserContext())
}

// another opens a second tab of the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return openTab(b.ctx, b.t)
}

func openTab(parent context.Context, t *testing.T, options ...chromedp.ContextOption) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(parent, options...)
	t.Cleanup(cancel)
	require.NoError(t, chromedp.Do(ctx))
	return &tab{t, ctx}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, steps...))
}

// load does what makes the browser load another page, and returns its status.
func (b *tab) load(steps ...chromedp.Action[chromedp.Void]) (status int64) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	resp, err := chromedp.RunResponse(ctx, steps...)
	require.NoError(b.t, err)
	require.NotNil(b.t, resp)
	return resp.Status
}

func (b *tab) open(uri string) (status int64) {
	b.t.Helper()
	return b.load(chromedp.Navigate(uri))
}

// press clicks where the button is. A chromedp.Click would not find the elements of
// a page that came back as it was left.
func (b *tab) press(button chromedp.CSS) (status int64) {
	b.t.Helper()
	b.do(chromedp.Evaluate[chromedp.Void](fmt.Sprintf("document.querySelector(%q).scrollIntoView({block: 'center'})", button)))
	r := b.box(button)
	return b.load(chromedp.MouseClickXY(r.X+r.Width/2, r.Y+r.Height/2))
}

// box is where an element is in the viewport.
type box struct{ X, Y, Width, Height float64 }

func (b *tab) box(element chromedp.CSS) box {
	b.t.Helper()
	return evaluate[box](b, fmt.Sprintf("document.querySelector(%q).getBoundingClientRect().toJSON()", element))
}

// back presses the browser's back button. The page may come as it was left, without
// being loaded again.
func (b *tab) back() {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	entries, err := chromedp.Run(ctx, chromedp.NavigationEntries())
	require.NoError(b.t, err)
	require.Positive(b.t, entries.CurrentIndex)
	previous := page.NavigateToHistoryEntryParams{EntryID: entries.Entries[entries.CurrentIndex-1].ID}
	goBack := chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, page.NavigateToHistoryEntry, previous)
		return err
	})
	isMain := func(e page.EventFrameNavigated) bool { return e.Frame.ParentID == "" }
	_, err = chromedp.Run(ctx, chromedp.WaitEvent(page.FrameNavigated, isMain, goBack))
	require.NoError(b.t, err)
	const loaded = "new Promise(done => document.readyState === 'complete' ? done() : addEventListener('load', () => done()))"
	b.do(chromedp.Evaluate[chromedp.Void](loaded, chromedp.EvalAwaitPromise))
}

// enterCode types a code into the form, replacing what is there, and sends it.
func (b *tab) enterCode(code string) (status int64) {
	b.t.Helper()
	b.do(chromedp.Clear(codeField), chromedp.SendKeys(codeField, code))
	return b.press(submitButton)
}

// signIn signs alice in on the login page.
func (b *tab) signIn() {
	b.t.Helper()
	b.signInAs("alice", "wonderland")
}

func (b *tab) signInAs(name, password string) {
	b.t.Helper()
	b.requireHeading(titleLogin)
	b.do(chromedp.SendKeys(nameField, name), chromedp.SendKeys(passwordField, password))
	b.press(submitButton)
}

// review opens the complete URI and, if need be, signs alice in on the way.
func (b *tab) review(a answer) {
	b.t.Helper()
	b.open(a.VerificationURIComplete)
	if b.heading() == titleLogin {
		b.signIn()
	}
	b.requireHeading(titleReview)
	assert.Contains(b.t, b.text(), a.UserCode)
}

// focus presses Tab until the element has the focus.
func (b *tab) focus(element chromedp.CSS) {
	b.t.Helper()
	for range 10 {
		b.do(chromedp.KeyEvent(kb.Tab))
		if evaluate[bool](b, fmt.Sprintf("document.activeElement.matches(%q)", element)) {
			return
		}
	}
	require.Fail(b.t, "the Tab key does not reach "+string(element))
}

func (b *tab) heading() string {
	return evaluate[string](b, "document.querySelector('h1')?.innerText ?? ''")
}

func (b *tab) text() string { return evaluate[string](b, "document.body.innerText") }

func (b *tab) requireHeading(want string) {
	b.t.Helper()
	require.Equal(b.t, want, b.heading(), b.text())
}

func evaluate[T any](b *tab, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script))
	require.NoError(b.t, err)
	return value
}

func (b *tab) disableJavaScript() {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: true})
	require.NoError(b.t, err)
}

// look sets the size of the viewport and the color scheme.
func (b *tab) look(width, height int64, scheme string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(width, height))
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}},
	})
	require.NoError(b.t, err)
}

// screenshot leaves a picture of the whole page where SCREENSHOTS says. The viewport
// grows to the page: what is beyond it, Chromium shifts when text runs from right to left.
func (b *tab) screenshot(name string) {
	b.t.Helper()
	dir := os.Getenv("SCREENSHOTS")
	if dir == "" {
		return
	}
	require.NoError(b.t, os.MkdirAll(dir, 0o755))
	size := evaluate[[2]int64](b, "[innerWidth, Math.max(innerHeight, document.documentElement.scrollHeight)]")
	b.do(chromedp.EmulateViewport(size[0], size[1]))
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	picture, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
}
