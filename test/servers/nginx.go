package servers

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// Files that nginx serves with sendfile. They have no blocks on disk.
var nginxFiles = []int64{2, 2000, 1 << 20, 16 << 20, 64 << 20}

const nginxConfig = `
worker_processes 1;
daemon off;
pid DIR/nginx.pid;
error_log DIR/error.log warn;
events { worker_connections 4096; }
http {
  client_body_temp_path DIR/body;
  proxy_temp_path DIR/proxy;
  fastcgi_temp_path DIR/fastcgi;
  uwsgi_temp_path DIR/uwsgi;
  scgi_temp_path DIR/scgi;
  log_format times '$msec $request_time $status $request_method $request_uri $http_x_request_id $bytes_sent';
  access_log DIR/access.log times;
  client_max_body_size 0;
  large_client_header_buffers 8 80k;
  keepalive_requests 10000000;
  keepalive_timeout 300;
  sendfile on;
  tcp_nodelay on;
UPSTREAMS
  server {
    listen ADDRESSPROTOCOL;
    root DIR/files;
    location = /fast { return 200 "ok"; }
    location = /bench { access_log off; return 200 "ok"; }
    location = /nginx_status { access_log off; stub_status; }
    location = /status/204 { return 204; }
    location = /status/304 { return 304; }
    location = /status/404 { return 404; }
    location = /status/500 { return 500; }
    location /many/ { access_log off; return 200 "ok"; }
    location /sink/ { dav_methods PUT; }
LOCATIONS
  }
}
`

// nginx generates a configuration whose files are all in the server's directory.
func (s *Server) nginx(options Options) (*exec.Cmd, error) {
	path, err := exec.LookPath("nginx")
	if err != nil {
		path = "/usr/sbin/nginx" // not in the PATH of ordinary users
	}
	files := filepath.Join(s.Dir, "files", "bytes")
	if err := errors.Join(os.MkdirAll(files, 0o755), os.Mkdir(filepath.Join(s.Dir, "files", "sink"), 0o777),
		os.Chmod(filepath.Join(s.Dir, "files", "sink"), 0o777)); err != nil {
		return nil, err
	}
	for _, size := range nginxFiles {
		name := filepath.Join(files, strconv.FormatInt(size, 10))
		if err := errors.Join(os.WriteFile(name, nil, 0o644), os.Truncate(name, size)); err != nil {
			return nil, err
		}
	}
	protocol := ""
	if options.Kind == NginxH2C {
		protocol = " http2"
	}
	config := strings.NewReplacer("DIR", s.Dir, "ADDRESS", s.Address, "PROTOCOL", protocol,
		"UPSTREAMS", upstream("tcp_upstream", options.TCPUpstream)+upstream("unix_upstream", unixName(options.UnixUpstream)),
		"LOCATIONS", location("tcp", options.TCPUpstream)+location("unix", options.UnixUpstream)).Replace(nginxConfig)
	configPath := filepath.Join(s.Dir, "nginx.conf")
	if err := os.WriteFile(configPath, []byte(config), 0o644); err != nil {
		return nil, err
	}
	return exec.Command(path, "-p", s.Dir, "-e", filepath.Join(s.Dir, "error.log"), "-c", configPath), nil
}

func unixName(path string) string {
	if path == "" {
		return ""
	}
	return "unix:" + path
}

func upstream(name, address string) string {
	if address == "" {
		return ""
	}
	return fmt.Sprintf("  upstream %s { server %s; keepalive 8; }\n", name, address)
}

func location(name, address string) string {
	if address == "" {
		return ""
	}
	return fmt.Sprintf("    location /%s/ { proxy_pass http://%s_upstream/; proxy_http_version 1.1; "+
		"proxy_set_header Connection \"\"; proxy_request_buffering off; }\n", name, name)
}
