module adieu.dev/tests/cluster/contour

go 1.26.0

tool github.com/projectcontour/contour/cmd/contour

require github.com/projectcontour/contour v1.33.0 // indirect

// The version that Contour asks for has no checksum on record.
replace github.com/envoyproxy/go-control-plane/envoy => github.com/envoyproxy/go-control-plane/envoy v1.35.0
