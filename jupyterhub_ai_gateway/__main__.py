"""`python -m jupyterhub_ai_gateway`, the same as the command `jupyterhub-ai-gateway`."""

from __future__ import annotations

from .cli import main

if __name__ == "__main__":
    main()
