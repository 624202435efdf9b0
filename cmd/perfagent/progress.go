package main

import (
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"
)

// progressInterval is how often it is said that a command still works, and after which time it is said first: most are done by then.
const progressInterval = time.Second

// showProgress makes a command say on a terminal what it does, and for how long, until it writes something. Input that is typed would
// be mixed with it, so where ofInput is set, and input comes from a terminal, it says nothing.
func showProgress(command *cobra.Command, what string, ofInput bool) {
	run := command.RunE
	command.RunE = func(c *cobra.Command, args []string) error {
		_, typed := terminalWidth(c.InOrStdin())
		if width, ok := terminalWidth(c.ErrOrStderr()); !ok || width > 0 && width <= len(what)+progressDigits || ofInput && typed {
			return run(c, args)
		}
		p := &progress{to: c.ErrOrStderr(), what: what, started: time.Now()}
		c.SetOut(progressEnd{p, c.OutOrStdout()})
		c.SetErr(progressEnd{p, c.ErrOrStderr()})
		stop := make(chan struct{})
		var ticking sync.WaitGroup
		ticking.Go(func() { p.tick(stop) })
		defer func() {
			close(stop)
			ticking.Wait()
			p.end()
		}()
		return run(c, args)
	}
}

// progressDigits are the columns of the seconds behind the text.
const progressDigits = 12

// progress is a line on a terminal that says that a command works.
type progress struct {
	to      io.Writer
	what    string
	started time.Time

	mu    sync.Mutex
	shown int // columns
	ended bool
}

func (p *progress) tick(stop <-chan struct{}) {
	again := time.NewTicker(progressInterval)
	defer again.Stop()
	for {
		select {
		case <-stop:
			return
		case <-again.C:
			p.show()
		}
	}
}

func (p *progress) show() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ended {
		return
	}
	text := fmt.Sprintf("%s: %d s", p.what, int(time.Since(p.started).Seconds()))
	p.shown = len(text)
	_, _ = io.WriteString(p.to, "\r"+text) // nobody is left to tell
}

// end removes the line, for good.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ended = true
	if p.shown > 0 {
		_, _ = io.WriteString(p.to, "\r"+strings.Repeat(" ", p.shown)+"\r")
		p.shown = 0
	}
}

// progressEnd ends progress before what is written.
type progressEnd struct {
	*progress
	to io.Writer
}

func (w progressEnd) Write(b []byte) (int, error) {
	w.end()
	return w.to.Write(b)
}
