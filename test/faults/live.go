package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"
)

const (
	// liveNormal is how long an agent sees nothing wrong first, liveFault how long each fault lasts, and livePause what is between.
	liveNormal = 6 * time.Minute
	liveFault  = 80 * time.Second
	livePause  = 100 * time.Second
)

// live has a real agent look at one fault after the other, without haste, and stores what it says of each.
func live(ctx context.Context, out string, wanted []string, base int) (err error) {
	if err := os.MkdirAll(out, 0o755); err != nil {
		return err
	}
	rig, err := openRig(base, false)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rig.close()) }()
	address := local(base + 3)
	agent := exec.CommandContext(ctx, "bin/perfagent", "run", "--web.listen-address="+address,
		"--web.socket="+filepath.Join(rig.dir, "agent.sock"), "--capture.port="+strconv.Itoa(base), "--capture.port="+strconv.Itoa(base+1),
		"--capture.port="+strconv.Itoa(base+2))
	agent.Cancel = func() error { return agent.Process.Signal(os.Interrupt) }
	if err := agent.Start(); err != nil {
		return err
	}
	defer func() { _ = agent.Process.Signal(os.Interrupt); _ = agent.Wait() }() // it ends with an error that tells of the signal
	r := &run{rig: rig, random: rand.New(rand.NewPCG(1, 1)), began: time.Now(), usedAtBegin: rig.groups.usedOr0("shop")}
	loading, cancel := context.WithCancel(ctx)
	r.load = startLoad(loading, rig.front, r.random)
	defer func() { cancel(); r.load.wait() }()
	pause := liveNormal
	for _, f := range faults {
		if f.inject == nil || len(wanted) > 0 && !slices.Contains(wanted, f.name) {
			continue
		}
		if !pauseFor(ctx, pause) {
			return ctx.Err()
		}
		pause = livePause
		detail, undo, err := f.inject(r)
		if err != nil {
			return err
		}
		log.Printf("%s: %s", f.name, detail)
		pauseFor(ctx, liveFault)
		err = store(filepath.Join(out, f.name+".json"), "http://"+address+"/troubleshoot/performance?service=shop")
		if err := errors.Join(err, undo()); err != nil {
			return err
		}
	}
	return nil
}

// store keeps an answer in a file.
func store(name, url string) error {
	response, err := http.Get(url)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, response.Status)
	}
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	return os.WriteFile(name, body, 0o644)
}
