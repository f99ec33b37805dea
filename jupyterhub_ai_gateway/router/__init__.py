"""Which deployment serves a request, and who may know that it exists."""

from __future__ import annotations

from .catalogue import Catalogue, Deployment, Endpoint

__all__ = ["Catalogue", "Deployment", "Endpoint"]
