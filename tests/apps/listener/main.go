// Command listener is an HTTP server on port 80 whose handler takes a second.
// Port 8080 is for the kubelet: /ready, and /prestop, which fails the readiness
// and answers 3 seconds later. On SIGTERM it lets requests finish for 10 seconds.
package main

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	work     = time.Second
	preStop  = 3 * time.Second
	shutdown = 10 * time.Second
)

func main() {
	pod, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	var leaving atomic.Bool
	kubelet := http.NewServeMux()
	kubelet.HandleFunc("/ready", func(w http.ResponseWriter, _ *http.Request) {
		if leaving.Load() {
			http.Error(w, "leaving", http.StatusServiceUnavailable)
		}
	})
	kubelet.HandleFunc("/prestop", func(http.ResponseWriter, *http.Request) {
		log.Print("preStop: not ready from now on")
		leaving.Store(true)
		time.Sleep(preStop)
	})
	clients := http.NewServeMux()
	clients.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(work)
		fmt.Fprintf(w, "hello from %s\n", pod)
	})
	server := &http.Server{Addr: ":80", Handler: clients}

	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() { log.Fatal(http.ListenAndServe(":8080", kubelet)) }()
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-terminate
	log.Print("SIGTERM: letting requests finish")
	limited, done := context.WithTimeout(context.Background(), shutdown)
	defer done()
	if err := server.Shutdown(limited); err != nil {
		log.Fatal(err)
	}
	log.Print("exiting")
}
