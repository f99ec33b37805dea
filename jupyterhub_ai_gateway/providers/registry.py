"""Which providers there are: those that ship with the package, and what other packages bring."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType

from ..config import ModelConfig, ProviderSchema, fold
from .anthropic import Anthropic
from .base import Provider
from .bedrock import Bedrock
from .cohere import Cohere
from .databricks import Databricks
from .echo import Echo
from .google import Gemini
from .mlflow_serving import MlflowModelServing
from .openai import Azure, OpenAI
from .openai_compatible import provider_of, rows
from .vertex import VertexAI

log = logging.getLogger(__name__)

GROUP = "jupyterhub_ai_gateway.providers"
Make = Callable[[ModelConfig], Provider]

RETIRED = {
    "palm": "is gone: Google switched the PaLM API off in 2024; its successor is Gemini",
    "mosaicml": "is gone: MosaicML's hosted models became a part of Databricks, their address was given up",
    "sap-ai-core": "is not served: MLflow asks it through a proxy of SAP's which adds the credentials; an "
    "address of it that speaks OpenAI's API is openai-compatible",
    "typesafe": "is not served: MLflow only passes its requests on, in a format of its own",
}
"""MLflow's providers whose service is no more, or which are not served: the end of a sentence that begins
with the path."""


class Providers:
    """All providers by name. `schemas` has their aliases too; `config.fold` says how names compare."""

    def __init__(self, makers: Mapping[str, Make], schemas: Mapping[str, ProviderSchema]) -> None:
        self._makers = {fold(name): make for name, make in makers.items()}
        self.schemas: Mapping[str, ProviderSchema] = MappingProxyType(dict(schemas))

    @classmethod
    def installed(cls) -> Providers:
        """Return what ships with the package, and what the entry points of other packages name.

        An entry point that cannot be loaded is logged and left out: then its provider is unknown. One
        that takes a name of ours is left out as well.
        """
        makers: dict[str, Make] = {}
        schemas: dict[str, ProviderSchema] = {
            name: ProviderSchema(name, (), frozenset(), retired=why) for name, why in RETIRED.items()
        }
        for provider, aliases in _shipped():
            makers[provider.schema.name] = provider
            schemas.update((name, provider.schema) for name in (provider.schema.name, *aliases))
        taken = {fold(name) for name in schemas}
        for point in entry_points(group=GROUP):
            found = _load(point, taken)
            if found is not None:
                makers[found.schema.name] = found
                schemas[found.schema.name] = found.schema
        return cls(makers, schemas)

    def make(self, model: ModelConfig) -> Provider:
        """Make the provider that an endpoint's model names."""
        return self._makers[fold(model.provider)](model)


def _shipped() -> Iterable[tuple[type[Provider], tuple[str, ...]]]:
    yield OpenAI, ()
    yield Azure, ()
    yield Anthropic, ()
    yield Cohere, ()
    yield MlflowModelServing, ()
    yield Bedrock, ("amazon-bedrock",)
    yield Gemini, ()
    yield VertexAI, ("vertex",)
    yield Databricks, ("databricks-model-serving",)
    yield Echo, ()
    for row in rows():
        yield provider_of(row), row.aliases


def _load(point: EntryPoint, taken: set[str]) -> type[Provider] | None:
    package = point.dist.name if point.dist is not None else point.value
    try:
        found = point.load()
    except Exception as error:  # noqa: BLE001 - another package's failure must not stop the gateway
        log.warning("The provider %s of %s cannot be loaded: %r", point.name, package, error)
        return None
    if not (isinstance(found, type) and issubclass(found, Provider)):
        log.warning("The provider %s of %s is no subclass of Provider", point.name, package)
        return None
    if fold(found.schema.name) in taken:
        log.warning("The provider %s of %s has a name that is taken", found.schema.name, package)
        return None
    return found
