// Command web is an ordinary HTTP server on port 8080 that knows nothing of
// termination: SIGTERM ends it at once, with whatever it was doing. As "web
// sleep SECONDS" it is the sleep of an image that has no other. As "web stop
// SECONDS CODE" it exits with CODE some seconds after SIGTERM; as "web ignore"
// it ignores SIGTERM.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) == 3 && os.Args[1] == "sleep" {
		seconds, err := strconv.Atoi(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		time.Sleep(time.Duration(seconds) * time.Second)
		return
	}
	if len(os.Args) == 4 && os.Args[1] == "stop" {
		seconds, err := strconv.Atoi(os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		code, err := strconv.Atoi(os.Args[3])
		if err != nil {
			log.Fatal(err)
		}
		stop := make(chan os.Signal, 1)
		signal.Notify(stop, syscall.SIGTERM)
		go func() {
			<-stop
			time.Sleep(time.Duration(seconds) * time.Second)
			os.Exit(code)
		}()
	}
	if len(os.Args) == 2 && os.Args[1] == "ignore" {
		signal.Ignore(syscall.SIGTERM)
	}
	pod, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Pod", pod)
		fmt.Fprintf(w, "hello from %s\n", pod)
	})
	log.Fatal(http.ListenAndServe(":8080", nil))
}
