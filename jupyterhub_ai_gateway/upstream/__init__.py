"""The wire to a provider: keep-alive pools and timeouts. Knows HTTP, nothing of models or callers."""
