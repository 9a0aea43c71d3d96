// Command relay is what a mesh puts beside an application: it passes on to
// port 8080 of its pod what comes to port 8081, and dies of SIGTERM at once.
//
// As `relay get URL TIMES` it sends requests, on a connection each, and prints
// the answers: what a shell in the container would be used for.
package main

import (
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"strconv"
	"time"
)

func main() {
	if len(os.Args) == 4 && os.Args[1] == "get" {
		if err := get(os.Args[2], os.Args[3]); err != nil {
			log.Fatal(err)
		}
		return
	}
	application := &url.URL{Scheme: "http", Host: "127.0.0.1:8080"}
	log.Fatal(http.ListenAndServe(":8081", httputil.NewSingleHostReverseProxy(application)))
}

func get(address, times string) error {
	count, err := strconv.Atoi(times)
	if err != nil {
		return err
	}
	client := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}
	for range count {
		answer, err := client.Get(address)
		if err != nil {
			return err
		}
		if answer.StatusCode != http.StatusOK {
			return fmt.Errorf("%s answers %s", address, answer.Status)
		}
		if _, err := io.Copy(os.Stdout, answer.Body); err != nil {
			return err
		}
		answer.Body.Close()
	}
	return nil
}
