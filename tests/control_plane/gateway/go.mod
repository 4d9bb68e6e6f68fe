// The release of the Gateway API whose CRD of HTTPRoutes tests install; go.sum holds what may be downloaded.
module fulltape.dev/tests/gateway

go 1.25.0

require sigs.k8s.io/gateway-api v1.4.1
