"""The LLM gateway of a JupyterHub. Importing this package costs nothing: the Hub does it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ._version import __version__

if TYPE_CHECKING:
    from .notebook import Shell

__all__ = ["__version__", "load_ipython_extension"]


def load_ipython_extension(shell: Shell) -> None:
    """Answer `%load_ext jupyterhub_ai_gateway`: `%ai_models`, `%ai_usage` and `%ai_limits`."""
    from .notebook import load

    load(shell)
