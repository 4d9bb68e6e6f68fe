"""The Kubernetes operator: reconciles each CryptoFeed of a cluster into the workloads that `fulltape` describes."""
