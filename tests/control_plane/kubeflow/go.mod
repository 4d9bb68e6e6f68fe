// The release of Kubeflow's Spark operator whose CRD tests install; go.sum holds what may be downloaded.
module fulltape.dev/tests/kubeflow

go 1.25.0

require github.com/kubeflow/spark-operator/v2 v2.5.2
