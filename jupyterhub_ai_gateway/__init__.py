"""The LLM gateway of a JupyterHub. Importing this package costs nothing: the Hub does it."""

from ._version import __version__

__all__ = ["__version__"]
