"""The Kubernetes world: the same reconcile over a real cluster, driven by kopf."""
