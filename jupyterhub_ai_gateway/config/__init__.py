"""The operator's configuration: from a YAML file, or the same in Python, to frozen values.

Everything wrong is said at once, with its path, in words that hold no secret. Nothing here knows a
provider: what one takes in `model.config` comes in as a `ProviderSchema`.
"""

from __future__ import annotations

from .connections import DnsConfig
from .document import load, read_document
from .health import HealthConfig
from .limits import period_s, read_limits
from .model import (
    ENDPOINT_TYPES,
    TEXT_TYPES,
    BatchesConfig,
    Combine,
    DataClass,
    DataRuleConfig,
    DeploymentConfig,
    EndpointConfig,
    GatewayConfig,
    KeysConfig,
    LedgerConfig,
    LimitConfig,
    MaintenanceConfig,
    MlflowConfig,
    ModelConfig,
    OfferConfig,
    Order,
    PolicyConfig,
    PoolConfig,
    ProbeConfig,
    ProviderSchema,
    ScopeConfig,
    Setting,
    SplitConfig,
    StoreConfig,
    TariffConfig,
    TlsConfig,
    WindowConfig,
)
from .openai_gateway import names_file, read_openai_gateway, text_of
from .parameters import ParametersConfig
from .parse import fold, parse
from .policies import group_policies
from .reference import provider_section, reference_page
from .schema import json_schema
from .secrets import Secret, resolve_secret
from .watch import FileWatch
from .words import listed

__all__ = [
    "ENDPOINT_TYPES",
    "TEXT_TYPES",
    "BatchesConfig",
    "Combine",
    "DataClass",
    "DataRuleConfig",
    "DeploymentConfig",
    "DnsConfig",
    "EndpointConfig",
    "FileWatch",
    "GatewayConfig",
    "HealthConfig",
    "KeysConfig",
    "LedgerConfig",
    "LimitConfig",
    "MaintenanceConfig",
    "MlflowConfig",
    "ModelConfig",
    "OfferConfig",
    "Order",
    "ParametersConfig",
    "PolicyConfig",
    "PoolConfig",
    "ProbeConfig",
    "ProviderSchema",
    "ScopeConfig",
    "Secret",
    "Setting",
    "SplitConfig",
    "StoreConfig",
    "TariffConfig",
    "TlsConfig",
    "WindowConfig",
    "fold",
    "group_policies",
    "json_schema",
    "listed",
    "load",
    "names_file",
    "parse",
    "period_s",
    "provider_section",
    "read_document",
    "read_limits",
    "read_openai_gateway",
    "reference_page",
    "resolve_secret",
    "text_of",
]
