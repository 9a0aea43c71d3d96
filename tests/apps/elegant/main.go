// Command elegant counts requests in Redis: /incr works for up to a second, and
// then increments the counter. With -graceful it takes its time on SIGTERM: it
// fails its readiness for 5 seconds, lets requests finish for 10, cancels the
// rest and waits 5 more. Without, SIGTERM ends it at once.
package main

import (
	"context"
	"errors"
	"flag"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/signal"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	work     = time.Second
	unready  = 5 * time.Second
	shutdown = 10 * time.Second
	hard     = 5 * time.Second
)

func main() {
	graceful := flag.Bool("graceful", false, "handle SIGTERM")
	flag.Parse()
	cache := redis.NewClient(&redis.Options{Addr: os.Getenv("REDIS_ADDRESS")})
	counter := os.Getenv("COUNTER")

	requests, cancel := context.WithCancel(context.Background())
	var leaving atomic.Bool
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		if leaving.Load() {
			http.Error(w, "shutting down", http.StatusServiceUnavailable)
		}
	})
	http.HandleFunc("/incr", func(w http.ResponseWriter, r *http.Request) {
		select {
		case <-time.After(rand.N(work)):
		case <-r.Context().Done():
			http.Error(w, "cancelled", http.StatusInternalServerError)
			return
		}
		if err := cache.Incr(r.Context(), counter).Err(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	server := &http.Server{Addr: ":8080", BaseContext: func(net.Listener) context.Context { return requests }}
	if !*graceful {
		log.Fatal(server.ListenAndServe())
	}

	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-terminate
	log.Print("SIGTERM: not ready from now on")
	leaving.Store(true)
	time.Sleep(unready)
	limited, done := context.WithTimeout(context.Background(), shutdown)
	defer done()
	err := server.Shutdown(limited)
	cancel()
	if err != nil {
		log.Print("requests are left after the time for them, and cancelled")
		time.Sleep(hard)
	}
	if err := cache.Close(); err != nil {
		log.Print(err)
	}
	log.Print("exiting")
}
