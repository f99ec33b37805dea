"""The operator's configuration: from a YAML file, or the same in Python, to frozen values.

Everything wrong is said at once, with its path, in words that hold no secret. Nothing here knows a
provider: what one takes in `model.config` comes in as a `ProviderSchema`.
"""

from __future__ import annotations

from .document import load
from .limits import period_s
from .model import (
    ENDPOINT_TYPES,
    EndpointConfig,
    GatewayConfig,
    LimitConfig,
    ModelConfig,
    ProviderSchema,
    Setting,
)
from .parse import fold, parse
from .reference import reference_page
from .schema import json_schema
from .secrets import Secret, resolve_secret
from .watch import FileWatch

__all__ = [
    "ENDPOINT_TYPES",
    "EndpointConfig",
    "FileWatch",
    "GatewayConfig",
    "LimitConfig",
    "ModelConfig",
    "ProviderSchema",
    "Secret",
    "Setting",
    "fold",
    "json_schema",
    "load",
    "parse",
    "period_s",
    "reference_page",
    "resolve_secret",
]
