// Command web is an ordinary HTTP server on port 8080 that knows nothing of
// termination: SIGTERM ends it at once, with whatever it was doing. As "web
// sleep SECONDS" it is the sleep of an image that has no other.
//
// Other arguments change how it terminates, and the container's termination
// message has the times. "web stop SECONDS CODE" exits with CODE some seconds
// after SIGTERM; "web ignore" ignores SIGTERM; "web shell" runs the server as a
// child and, like a shell that is process 1, neither exits nor forwards
// SIGTERM; "web default" only logs. "web idle SECONDS" closes idle connections
// after some seconds, and on SIGTERM it finishes requests and closes the
// WebSockets of /events with a close frame. "web reset SECONDS" resets them
// instead, and SIGTERM ends it with all connections reset.
package main

import (
	"context"
	"crypto/sha1"
	"encoding/base64"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"
)

func main() {
	mode := ""
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	sigterm := make(chan os.Signal, 1)
	switch mode {
	case "sleep":
		time.Sleep(seconds(2))
		return
	case "stop":
		signal.Notify(sigterm, syscall.SIGTERM)
		go report(sigterm, seconds(2), argument(3))
	case "ignore":
		signal.Ignore(syscall.SIGTERM)
		go report(sigterm, 0, 0)
	case "shell":
		signal.Notify(sigterm, syscall.SIGTERM)
		go report(sigterm, time.Hour, 0)
		log.Fatal(exec.Command(os.Args[0]).Run())
	case "default":
		go report(sigterm, 0, 0)
	}
	pod, err := os.Hostname()
	if err != nil {
		log.Fatal(err)
	}
	http.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("X-Pod", pod)
		fmt.Fprintf(w, "hello from %s\n", pod)
	})
	switch mode {
	case "idle":
		finish(seconds(2), pod)
		return
	case "reset":
		server := &http.Server{Addr: ":8080", IdleTimeout: seconds(2), ConnState: linger}
		log.Fatal(server.ListenAndServe())
	}
	log.Fatal(http.ListenAndServe(":8080", nil))
}

// linger makes the system reset a kept connection when it is closed. One for a
// single request is closed in order, or its client might lose the response.
func linger(connection net.Conn, state http.ConnState) {
	if state != http.StateIdle {
		return
	}
	if err := connection.(*net.TCPConn).SetLinger(0); err != nil {
		log.Print(err)
	}
}

// finish serves until SIGTERM, and then finishes what is in progress.
func finish(idle time.Duration, pod string) {
	server := &http.Server{Addr: ":8080", IdleTimeout: idle}
	var sockets sync.WaitGroup
	leaving := make(chan struct{})
	http.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		// RFC 6455, section 4.2.2.
		accept := sha1.Sum([]byte(r.Header.Get("Sec-WebSocket-Key") + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			log.Print(err)
			return
		}
		defer connection.Close()
		sockets.Add(1)
		defer sockets.Done()
		fmt.Fprintf(connection, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Pod: %s\r\nSec-WebSocket-Accept: %s\r\n\r\n",
			pod, base64.StdEncoding.EncodeToString(accept[:]))
		<-leaving
		// A close frame with the status 1001.
		if _, err := connection.Write([]byte{0x88, 2, 0x03, 0xe9}); err != nil {
			log.Print(err)
		}
	})
	terminate := make(chan os.Signal, 1)
	signal.Notify(terminate, syscall.SIGTERM)
	go func() {
		if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
			log.Fatal(err)
		}
	}()
	<-terminate
	close(leaving)
	if err := server.Shutdown(context.Background()); err != nil {
		log.Fatal(err)
	}
	sockets.Wait()
}

func argument(index int) int {
	if len(os.Args) <= index {
		log.Fatalf("argument %d is missing", index)
	}
	number, err := strconv.Atoi(os.Args[index])
	if err != nil {
		log.Fatal(err)
	}
	return number
}

func seconds(index int) time.Duration {
	return time.Duration(argument(index)) * time.Second
}

// report keeps the termination message up to date: when SIGTERM was received (0
// if it wasn't) and when the process last ran, in milliseconds. It exits with
// code some time after SIGTERM.
func report(sigterm <-chan os.Signal, shutdown time.Duration, code int) {
	message, err := os.OpenFile("/dev/termination-log", os.O_WRONLY, 0)
	if err != nil {
		log.Fatal(err)
	}
	received := int64(0)
	var end <-chan time.Time
	for ended := false; ; {
		// Of one length, so that each replaces the one before.
		text := fmt.Sprintf(`{"sigterm":%13d,"alive":%13d}`, received, time.Now().UnixMilli())
		if _, err := message.WriteAt([]byte(text), 0); err != nil {
			log.Fatal(err)
		}
		if ended {
			os.Exit(code)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-sigterm:
			received, end = time.Now().UnixMilli(), time.After(shutdown)
		case <-end:
			ended = true
		}
	}
}
