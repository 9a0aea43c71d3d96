package main

import (
	"bytes"
	"fmt"
	"strings"
	"syscall"
)

// A proxy is a program, and how it is configured.
type proxy struct {
	render func(routes []route) []byte
	reload syscall.Signal
}

var proxies = map[string]proxy{
	"haproxy": {haproxy, syscall.SIGUSR2},
	"nginx":   {nginx, syscall.SIGHUP},
}

// haproxy doesn't repeat requests at another pod: what is sent to one that is
// gone is lost, as are requests that a proxy may not repeat.
func haproxy(routes []route) []byte {
	var rules, backends bytes.Buffer
	for index, route := range routes {
		fmt.Fprintf(&rules, "  use_backend b%d if { path_beg %s }\n", index, route.path)
		fmt.Fprintf(&backends, "backend b%d\n  balance roundrobin\n", index)
		for server, address := range route.addresses {
			fmt.Fprintf(&backends, "  server s%d %s\n", server, address)
		}
	}
	return fmt.Appendf(nil, `global
  maxconn 4000
  stats socket %[1]s/haproxy.sock level admin expose-fd listeners
defaults
  mode http
  retries 0
  timeout connect 2s
  timeout client 30s
  timeout server 30s
frontend web
  bind :8080
%[2]s%[3]s`, *folder, rules.String(), backends.String())
}

// nginx doesn't repeat requests either, and never takes a pod for failed.
func nginx(routes []route) []byte {
	var upstreams, locations bytes.Buffer
	for index, route := range routes {
		if len(route.addresses) == 0 {
			fmt.Fprintf(&locations, "    location %s { return 503; }\n", route.path)
			continue
		}
		var servers strings.Builder
		for _, address := range route.addresses {
			fmt.Fprintf(&servers, " server %s max_fails=0;", address)
		}
		fmt.Fprintf(&upstreams, "  upstream b%d {%s }\n", index, servers.String())
		fmt.Fprintf(&locations, "    location %s { proxy_pass http://b%d; }\n", route.path, index)
	}
	return fmt.Appendf(nil, `worker_processes 1;
pid %[1]s/proxy.pid;
error_log stderr warn;
events { worker_connections 4000; }
http {
  access_log off;
  client_body_temp_path %[1]s/client;
  proxy_temp_path %[1]s/proxy;
  fastcgi_temp_path %[1]s/fastcgi;
  uwsgi_temp_path %[1]s/uwsgi;
  scgi_temp_path %[1]s/scgi;
  proxy_connect_timeout 2s;
  proxy_next_upstream off;
%[2]s  server {
    listen 8080;
%[3]s  }
}
`, *folder, upstreams.String(), locations.String())
}
