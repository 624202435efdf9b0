package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/perfagent/perfagent/test/faults/link"
	"github.com/perfagent/perfagent/test/servers"
)

const (
	// startTimeout is for a service to listen.
	startTimeout = 20 * time.Second
	// shopMemory is what the shop's group may have: its own, the catalog in the page cache, and some more.
	shopMemory = 120 << 20
	// namespace is the store's.
	namespace = "pffault"
)

// shopFaults are what is wrong with a shop or a store (Faults of test/faults/shop).
type shopFaults struct {
	DelayMS, ErrorShare    float64
	LeakMB                 int
	HoldLockMS, HoldPoolMS float64
}

// rig is everything that runs while recordings are made.
type rig struct {
	front    string // nginx' address
	dir      string
	base     int
	groups   *groups
	disk     *disk
	link     *link.Link
	shop     *servers.Process
	version  int
	recorder *recorder
	closers  []func() error
}

// openRig starts it all, with or without the recorder.
func openRig(base int, records bool) (r *rig, err error) {
	r = &rig{front: local(base), base: base}
	defer func() {
		if err != nil {
			err = errors.Join(err, r.close())
		}
	}()
	if r.dir, err = os.MkdirTemp("", "perfagent-faults-"); err != nil {
		return r, err
	}
	r.closers = append(r.closers, func() error { return os.RemoveAll(r.dir) })
	if err := os.Chmod(r.dir, 0o755); err != nil { // nginx' workers are another user's
		return r, err
	}
	parts := []func() error{r.openGroups, r.openDisk, r.openLink, r.build, r.openStore, r.openShop, r.openNginx}
	if records {
		parts = append(parts, r.openRecorder)
	}
	for _, open := range parts {
		if err := open(); err != nil {
			return r, err
		}
	}
	return r, nil
}

func local(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }

func (r *rig) close() (err error) {
	for i := len(r.closers) - 1; i >= 0; i-- {
		err = errors.Join(err, r.closers[i]())
	}
	return err
}

func (r *rig) openGroups() (err error) {
	r.groups, err = openGroups()
	r.closers = append(r.closers, r.groups.close)
	return err
}

func (r *rig) openDisk() (err error) {
	r.disk, err = openDisk(r.dir)
	r.closers = append(r.closers, r.disk.close)
	return err
}

func (r *rig) openLink() (err error) {
	if r.link, err = link.Open(namespace); err == nil {
		r.closers = append(r.closers, r.link.Close)
	}
	return err
}

// build makes the services' programs, which are one under two names.
func (r *rig) build() error {
	for _, name := range []string{"shop", "store"} {
		if err := command("go", "build", "-o", filepath.Join(r.dir, name), "./test/faults/shop"); err != nil {
			return err
		}
	}
	return nil
}

func command(name string, arguments ...string) error {
	if output, err := exec.Command(name, arguments...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, strings.Join(arguments, " "), err, output)
	}
	return nil
}

// start runs a program in a group, and waits until it listens.
func (r *rig) start(group, address string, arguments ...string) (*servers.Process, error) {
	p, err := servers.StartProcess(r.groups.command(group, arguments...), filepath.Join(r.dir, group+".log"))
	if err != nil {
		return nil, err
	}
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		connection, err := net.Dial("tcp", address)
		if err == nil {
			return p, connection.Close()
		}
		select {
		case <-p.Done():
			return nil, fmt.Errorf("%s ended: %s", group, p.Log())
		default:
		}
		if time.Now().After(deadline) {
			return nil, errors.Join(fmt.Errorf("%s does not listen: %w", group, err), p.Kill())
		}
	}
}

func (r *rig) storeAddress() string { return link.FarAddress + ":" + strconv.Itoa(r.base+2) }

func (r *rig) openStore() error {
	p, err := r.start("store", r.storeAddress(), "ip", "netns", "exec", namespace, filepath.Join(r.dir, "store"),
		"-address", r.storeAddress(), "-control", r.control("store"))
	if err == nil {
		r.closers = append(r.closers, p.Stop)
	}
	return err
}

func (r *rig) control(name string) string { return filepath.Join(r.dir, name+".sock") }

func (r *rig) openShop() (err error) {
	r.closers = append(r.closers, func() error {
		if r.shop == nil {
			return nil
		}
		return r.shop.Stop()
	})
	return r.deploy(1)
}

// deploy starts a version of the shop, and ends the one before when it listens.
func (r *rig) deploy(work float64) error {
	before := r.shop
	r.version++
	address := local(r.base + 1)
	arguments := []string{filepath.Join(r.dir, "shop"), "-address", address, "-control", r.shopControl(), "-store", r.storeAddress(),
		"-data", r.disk.dir, "-work", strconv.FormatFloat(work, 'f', 2, 64)}
	p, err := r.start("shop", address, arguments...)
	if err != nil {
		return err
	}
	if err := awaitFile(r.shopControl()); err != nil {
		return err
	}
	r.shop = p
	if before == nil {
		return nil
	}
	return before.Stop()
}

// shopControl is the control socket of the latest version.
func (r *rig) shopControl() string { return r.control("shop" + strconv.Itoa(r.version)) }

func awaitFile(name string) error {
	for deadline := time.Now().Add(startTimeout); ; time.Sleep(5 * time.Millisecond) {
		if _, err := os.Stat(name); err == nil {
			return nil
		} else if time.Now().After(deadline) {
			return err
		}
	}
}

const nginxConfig = `
worker_processes 1;
daemon off;
pid DIR/nginx.pid;
error_log DIR/error.log error;
events { worker_connections 2048; }
http {
  client_body_temp_path DIR/body; proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
  access_log off;
  upstream shop { server SHOP; keepalive 16; }
  server {
    listen FRONT;
    location / { proxy_pass http://shop; proxy_http_version 1.1; proxy_set_header Connection ""; }
  }
}
`

func (r *rig) openNginx() error {
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // not in the PATH of ordinary users
	}
	text := strings.NewReplacer("DIR", r.dir, "SHOP", local(r.base+1), "FRONT", r.front).Replace(nginxConfig)
	file := filepath.Join(r.dir, "nginx.conf")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		return err
	}
	p, err := r.start("nginx", r.front, path, "-p", r.dir, "-e", filepath.Join(r.dir, "error.log"), "-c", file)
	if err == nil {
		r.closers = append(r.closers, p.Stop)
	}
	return err
}

func (r *rig) setShop(f shopFaults) error  { return set(r.shopControl(), f) }
func (r *rig) setStore(f shopFaults) error { return set(r.control("store"), f) }
func (r *rig) wellShop() error             { return r.setShop(shopFaults{}) }
func (r *rig) wellStore() error            { return r.setStore(shopFaults{}) }
func (r *rig) wellLink() error             { r.link.Set(link.Quality{}); return nil }

// set tells a service what is wrong with it.
func set(socket string, f shopFaults) error {
	body, err := json.Marshal(f)
	if err != nil {
		return err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: dial}}
	response, err := client.Post("http://control/", "application/json", bytes.NewReader(body))
	if err != nil {
		return err
	}
	return response.Body.Close()
}
