"""Starts and ends the project's test cluster: kind with Envoy Gateway, KServe and metrics-server. Standard library only."""
