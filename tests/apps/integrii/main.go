// Command integrii is an HTTP server on port 8080 that goes on serving for 20
// seconds after SIGTERM, and then exits with 0: long enough for everybody to
// have heard that its pod goes away.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"
)

const wait = 20 * time.Second

func main() {
	pod, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	fine := func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") }
	http.HandleFunc("/alive", fine)
	http.HandleFunc("/ready", fine)
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "hello from %s\n", pod)
	})
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() { log.Fatal(http.ListenAndServe(":8080", nil)) }()
	<-terminate
	log.Printf("SIGTERM: serving for another %s", wait)
	time.Sleep(wait)
	log.Print("exiting")
}
