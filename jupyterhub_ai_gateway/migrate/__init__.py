"""Other gateways' configurations, turned into ours: a module for each, and what they share.

`draft` collects endpoints and notes, `checking` holds the result against our own rules and takes out what
they refuse, `writing` makes a file of it. Nothing here reads files or the environment, and no key is
written out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from .checking import checked
from .draft import Migration, NotThisFormat
from .first import from_first
from .litellm import from_litellm
from .mlflow import from_mlflow
from .openai_gateway import from_openai_gateway
from .writing import as_text

__all__ = ["SOURCES", "Migration", "NotThisFormat", "as_text", "checked"]

SOURCES: Mapping[str, Callable[[object], Migration]] = {
    "litellm": from_litellm,
    "mlflow": from_mlflow,
    "openai-gateway": from_openai_gateway,
    "first": from_first,
}
"""What a configuration may come from. Each function takes the document as YAML or JSON gave it."""
