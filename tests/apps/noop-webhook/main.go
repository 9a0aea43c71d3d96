// Command noop-webhook is an admission webhook that decides nothing: what any
// webhook costs. It serves HTTPS on port 8443, allows everything, and changes
// nothing at /admit; at /patch it answers with the JSON patch in the
// environment variable PATCH (base64).
package main

import (
	"encoding/json"
	"fmt"
	"log"
	"net/http"
	"os"
)

func main() {
	http.HandleFunc("POST /admit", answer(""))
	http.HandleFunc("POST /patch", answer(fmt.Sprintf(`,"patchType":"JSONPatch","patch":%q`, os.Getenv("PATCH"))))
	log.Fatal(http.ListenAndServeTLS(":8443", "/tls/tls.crt", "/tls/tls.key", nil))
}

func answer(patch string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		// Without the uid the API server takes no answer.
		var review struct {
			Request struct {
				UID string `json:"uid"`
			} `json:"request"`
		}
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		fmt.Fprintf(w, `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"uid":%q,"allowed":true%s}}`, review.Request.UID, patch)
	}
}
