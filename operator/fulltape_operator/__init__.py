"""The Kubernetes operator: reconciles a CryptoFeed into the workloads that `fulltape` describes. Not built yet."""
