// The release of prometheus-operator whose CRDs tests install; go.sum holds what may be downloaded.
module fulltape.dev/tests/prometheus

go 1.25.0

require github.com/prometheus-operator/prometheus-operator v0.85.0
