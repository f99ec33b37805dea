"""Measures the gateway beside its upstream and beside nginx as a plain proxy; see README.md."""
