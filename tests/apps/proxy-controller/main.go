// Command proxy-controller is the smallest ingress controller that there can
// be: it writes the configuration of a proxy beside it, HAProxy or nginx, from
// the Ingresses of a class and the EndpointSlices of their Services, and makes
// the proxy reload it. With -delay it applies every change that much later than
// it sees it, like a controller that is busy.
//
// The Services must have one port. The proxy is another container of the pod,
// which shares its processes and the folder of the configuration. With -once it
// only writes the configuration.
package main

import (
	"bytes"
	"context"
	"flag"
	"log"
	"os"
	"strconv"
	"syscall"
	"time"
)

var (
	class     = flag.String("class", "", "the IngressClass")
	delay     = flag.Duration("delay", 0, "the time from a change to its reload")
	folder    = flag.String("folder", "/config", "the folder of proxy.conf and proxy.pid")
	once      = flag.Bool("once", false, "write the configuration and exit")
	proxyName = flag.String("proxy", "haproxy", "haproxy or nginx")
)

// A change is a configuration, and when to apply it.
type change struct {
	config []byte
	due    time.Time
}

func main() {
	flag.Parse()
	proxy, ok := proxies[*proxyName]
	if !ok {
		log.Fatalf("unknown proxy %q", *proxyName)
	}
	if *once {
		if err := write(proxy.render(nil)); err != nil {
			log.Fatal(err)
		}
		return
	}
	api, err := newAPI()
	if err != nil {
		log.Fatal(err)
	}
	changed := make(chan struct{}, 1)
	for _, path := range []string{ingresses, endpointSlices} {
		go api.watch(context.Background(), path, changed)
	}
	// More than there are changes during the longest delay.
	changes := make(chan change, 10000)
	go apply(proxy, changes)
	var last []byte
	for range changed {
		seen := time.Now()
		routes, err := api.routes(*class)
		if err != nil {
			log.Print(err)
			time.Sleep(time.Second)
			signal(changed)
			continue
		}
		config := proxy.render(routes)
		if !bytes.Equal(config, last) {
			last = config
			changes <- change{config, seen.Add(*delay)}
		}
	}
}

// apply applies each change when it is due. Reloads of a proxy take a moment.
func apply(proxy proxy, changes <-chan change) {
	for next := range changes {
		time.Sleep(time.Until(next.due))
		if err := write(next.config); err != nil {
			log.Fatal(err)
		}
		if err := reload(proxy.reload); err != nil {
			log.Fatal(err)
		}
		log.Printf("reloaded %v after the change", *delay+time.Since(next.due))
		time.Sleep(100 * time.Millisecond)
	}
}

// write replaces the configuration at once, so that no half of it is read.
func write(config []byte) error {
	file := *folder + "/proxy.conf"
	if err := os.WriteFile(file+".new", config, 0o644); err != nil {
		return err
	}
	return os.Rename(file+".new", file)
}

// reload signals the proxy, which may just be starting, or writing its pid.
func reload(signal syscall.Signal) error {
	var err error
	for range 100 {
		var text []byte
		if text, err = os.ReadFile(*folder + "/proxy.pid"); err == nil {
			var pid int
			if pid, err = strconv.Atoi(string(bytes.TrimSpace(text))); err == nil {
				return syscall.Kill(pid, signal)
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return err
}

// signal makes the main loop look again.
func signal(changed chan<- struct{}) {
	select {
	case changed <- struct{}{}:
	default:
	}
}
