"""A Kubernetes control plane for tests: real servers built from source, real CRDs of its neighbours, no nodes.

`programs` builds the servers once, `crds` fetches the neighbours' CRDs once, `plane` starts them, and `kubelet` says of
pods what a node would. ``python -m tests.control_plane -- COMMAND`` runs a command with all of it.
"""
