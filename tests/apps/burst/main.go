// Command burst sends bursts of requests to a URL, each request on a new
// connection, and nothing for some seconds between them: traffic by which a
// proxy can't be taken for quiet. At SIGTERM it waits for the last answers, and
// prints how many requests it sent, and how many were lost.
package main

import (
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

const (
	size     = 100
	interval = 2 * time.Millisecond
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: burst URL")
	}
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, os.Interrupt)
	client := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	var sent, lost atomic.Int64
	var answers sync.WaitGroup
	for running := true; running; {
		for range size {
			sent.Add(1)
			answers.Go(func() {
				if err := get(client, os.Args[1]); err != nil {
					lost.Add(1)
					log.Print(err)
				}
			})
			time.Sleep(interval)
		}
		select {
		case <-stop:
			running = false
		case <-time.After(time.Second + rand.N(4*time.Second)):
		}
	}
	answers.Wait()
	fmt.Printf("{\"sent\": %d, \"lost\": %d}\n", sent.Load(), lost.Load())
}

func get(client *http.Client, url string) error {
	answer, err := client.Get(url)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	if answer.StatusCode >= 500 {
		return fmt.Errorf("%s", answer.Status)
	}
	_, err = io.Copy(io.Discard, answer.Body)
	return err
}
