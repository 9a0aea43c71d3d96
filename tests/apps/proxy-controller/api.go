package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"time"
)

const (
	account        = "/var/run/secrets/kubernetes.io/serviceaccount/"
	ingresses      = "/apis/networking.k8s.io/v1/ingresses"
	endpointSlices = "/apis/discovery.k8s.io/v1/endpointslices"
)

// A route is a prefix of paths, and the addresses that serve them.
type route struct {
	path      string
	addresses []string
}

type metadata struct {
	Namespace       string            `json:"namespace"`
	Labels          map[string]string `json:"labels"`
	ResourceVersion string            `json:"resourceVersion"`
}

type list[T any] struct {
	Metadata metadata `json:"metadata"`
	Items    []T      `json:"items"`
}

type ingress struct {
	Metadata metadata `json:"metadata"`
	Spec     struct {
		IngressClassName string `json:"ingressClassName"`
		Rules            []struct {
			HTTP struct {
				Paths []struct {
					Path    string `json:"path"`
					Backend struct {
						Service struct {
							Name string `json:"name"`
						} `json:"service"`
					} `json:"backend"`
				} `json:"paths"`
			} `json:"http"`
		} `json:"rules"`
	} `json:"spec"`
}

type endpointSlice struct {
	Metadata  metadata `json:"metadata"`
	Endpoints []struct {
		Addresses  []string `json:"addresses"`
		Conditions struct {
			Ready *bool `json:"ready"`
		} `json:"conditions"`
	} `json:"endpoints"`
	Ports []struct {
		Port int `json:"port"`
	} `json:"ports"`
}

// An api is the API server, as a pod reaches it.
type api struct {
	client  http.Client
	address string
}

func newAPI() (*api, error) {
	certificates, err := os.ReadFile(account + "ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(certificates)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}
	host := net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT"))
	return &api{http.Client{Transport: transport}, "https://" + host}, nil
}

func (a *api) get(ctx context.Context, path string) (*http.Response, error) {
	token, err := os.ReadFile(account + "token")
	if err != nil {
		return nil, err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, a.address+path, nil)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+string(token))
	response, err := a.client.Do(request)
	if err != nil {
		return nil, err
	}
	if response.StatusCode != http.StatusOK {
		response.Body.Close()
		return nil, fmt.Errorf("%s: %s", path, response.Status)
	}
	return response, nil
}

func listed[T any](a *api, path string) (list[T], error) {
	var found list[T]
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	response, err := a.get(ctx, path)
	if err != nil {
		return found, err
	}
	defer response.Body.Close()
	err = json.NewDecoder(response.Body).Decode(&found)
	return found, err
}

// watch signals every change of the objects at path, also those before it began.
func (a *api) watch(ctx context.Context, path string, changed chan<- struct{}) {
	for {
		if err := a.follow(ctx, path, changed); err != nil {
			log.Print(err)
			time.Sleep(time.Second)
		}
	}
}

func (a *api) follow(ctx context.Context, path string, changed chan<- struct{}) error {
	found, err := listed[json.RawMessage](a, path)
	if err != nil {
		return err
	}
	signal(changed)
	response, err := a.get(ctx, path+"?watch=1&resourceVersion="+found.Metadata.ResourceVersion)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	// One event a line.
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		signal(changed)
	}
	return lines.Err()
}

// routes are those of all Ingresses of the class, the longest path first.
func (a *api) routes(class string) ([]route, error) {
	all, err := listed[ingress](a, ingresses)
	if err != nil {
		return nil, err
	}
	found, err := listed[endpointSlice](a, endpointSlices)
	if err != nil {
		return nil, err
	}
	var routes []route
	for _, ingress := range all.Items {
		if ingress.Spec.IngressClassName != class {
			continue
		}
		for _, rule := range ingress.Spec.Rules {
			for _, path := range rule.HTTP.Paths {
				service := path.Backend.Service.Name
				routes = append(routes, route{path.Path, ready(found.Items, ingress.Metadata.Namespace, service)})
			}
		}
	}
	slices.SortFunc(routes, func(a, b route) int {
		return cmp.Or(cmp.Compare(len(b.path), len(a.path)), cmp.Compare(a.path, b.path))
	})
	return routes, nil
}

// ready are the addresses of a Service's endpoints that are ready.
func ready(all []endpointSlice, namespace, service string) []string {
	var addresses []string
	for _, slice := range all {
		of := slice.Metadata
		if of.Namespace != namespace || of.Labels["kubernetes.io/service-name"] != service || len(slice.Ports) == 0 {
			continue
		}
		for _, endpoint := range slice.Endpoints {
			if endpoint.Conditions.Ready == nil || *endpoint.Conditions.Ready {
				port := strconv.Itoa(slice.Ports[0].Port)
				addresses = append(addresses, net.JoinHostPort(endpoint.Addresses[0], port))
			}
		}
	}
	slices.Sort(addresses)
	return slices.Compact(addresses)
}
