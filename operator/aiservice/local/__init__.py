"""The local world: the same reconcile on one machine, with processes behind Envoy and files for the API server."""
