// Command web is an ordinary HTTP server on port 8080 that knows nothing of
// termination: SIGTERM ends it at once, with whatever it was doing.
package main

import (
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
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
