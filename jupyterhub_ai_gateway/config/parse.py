"""From a document, as YAML or Python gave it, to a `GatewayConfig`. All that is wrong is said at once."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType

from ..vocabulary import ADMIN, FULL_ACCESS, OPERATIONS, TRANSCRIPTIONS, Timeouts
from .batches import read_batches, read_place
from .connections import read_addresses, read_dns
from .health import HealthConfig, read_deadline, read_health
from .limits import read_limit
from .mlflow import check_splits, is_split, read_mlflow, read_split
from .model import (
    ENDPOINT_TYPES,
    DeploymentConfig,
    EndpointConfig,
    GatewayConfig,
    MlflowConfig,
    ModelConfig,
    OfferConfig,
    ProbeConfig,
    ProviderSchema,
    SplitConfig,
    TariffConfig,
)
from .offers import read_data_rules, read_offer
from .parameters import ParametersConfig, read_parameters
from .policies import read_combine, read_policies, read_time_zone
from .pools import read_pools
from .prices import read_price
from .report import Block, Locate, Report
from .routing import read_names, read_order, read_weight, read_whole
from .secrets import Resolver
from .settings import read_with_keys
from .stand_ins import check_stand_ins, read_at_limit
from .states import read_hook, read_maintenance, read_probe
from .stores import read_keys, read_ledger, read_store
from .tls import read_tls
from .words import hint, kind_of, listed, nearest, shown, shown_key

NAME = r"[A-Za-z0-9_.\-]+"
PATTERN = r"[A-Za-z0-9_.:/\-]{0,200}\*"
ALIAS = r"[A-Za-z0-9_.:/\-]{1,200}"
SCOPE = r"[a-z0-9](?:[a-z0-9_:\-]*[a-z0-9_])?"
TYPE_KEYS = ("endpoint_type", "route_type", "type")
RESERVED_SCOPES = (*OPERATIONS, FULL_ACCESS, ADMIN)
_OPERATION_SCOPE = re.compile(r".*:(?:list|create|read|write|delete)")
_PATH_WORDS = frozenset(
    {"routes", "limits", "mlflow", "openai", "anthropic", "gemini", "typesafe", "proxy"}
)
"""Words that mean something in MLflow's paths where an endpoint's name stands."""
_NOTHING = ModelConfig("", None, MappingProxyType({}))


def parse(
    document: object,
    providers: Mapping[str, ProviderSchema],
    environ: Mapping[str, str],
    *,
    base_dir: Path | None = None,
) -> GatewayConfig:
    """Read a whole configuration: `{"endpoints": [...]}` as MLflow and the original gateway write it.

    `providers` maps names, aliases included, to schemas. Relative files of secrets count from `base_dir`.
    One `ConfigFault` says all that is wrong, a line for each; its `path` is the first one's.
    """
    resolver = Resolver(environ, base_dir)
    return parse_with(document, providers, resolver, lambda path: None)


def parse_with(
    document: object,
    providers: Mapping[str, ProviderSchema],
    resolver: Resolver,
    locate: Locate,
    name_pattern: str = NAME,
) -> GatewayConfig:
    """Do what `parse` does, and say in each problem which line of a file it is about."""
    schemas = {fold(name): schema for name, schema in providers.items()}
    parser = _Parser(schemas, resolver, name_pattern=name_pattern)
    config = parser.document(document)
    if parser.report.errors:
        raise parser.report.fault(resolver.files, locate)
    return replace(config, warnings=parser.report.warning_lines(locate), files=tuple(resolver.files))


def parse_aliased(
    document: object, providers: Mapping[str, ProviderSchema], environ: Mapping[str, str]
) -> GatewayConfig:
    """Do what `parse` does for endpoints whose names may hold what aliases may, such as slashes."""
    return parse_with(document, providers, Resolver(environ), lambda path: None, name_pattern=ALIAS)


@dataclass(frozen=True, slots=True)
class _Usual:
    """What the deployments of an endpoint have unless they say otherwise."""

    endpoint_type: str
    is_pattern: bool
    price: tuple[TariffConfig, ...] | None
    timeouts: Timeouts
    offer: OfferConfig
    pool: str | None
    probe: ProbeConfig | None


def fold(provider: str) -> str:
    """Return a provider's name in the form by which names are compared (M-45)."""
    return provider.strip().lower().replace("-", "_")


@dataclass(slots=True)
class _Parser:
    """Reads one document. `names` maps the endpoints' names so far to their paths."""

    providers: Mapping[str, ProviderSchema]
    resolver: Resolver = field(repr=False)
    report: Report = field(default_factory=Report)
    names: dict[str, str] = field(default_factory=dict)
    splits: list[SplitConfig] = field(default_factory=list)
    mlflow: MlflowConfig = field(default_factory=MlflowConfig)
    name_pattern: str = NAME
    health: HealthConfig = field(default_factory=HealthConfig)
    deadline_s: float | None = None

    def document(self, document: object) -> GatewayConfig:
        if not isinstance(document, Mapping):
            self.report.error(
                "endpoints", f"is missing: the configuration must be a mapping, found {kind_of(document)}"
            )
            return GatewayConfig(())
        block = Block(document, "", self.report)
        timeouts = self._timeouts(block, Timeouts())
        self.mlflow = read_mlflow(block, MlflowConfig())
        self.health = read_health(block, HealthConfig())
        self.deadline_s = read_deadline(block, None)
        entries = [entry for key in ("endpoints", "routes") for entry in self._entries(block, key)]
        endpoints = [self._endpoint(path, entry, timeouts) for path, entry in entries]
        if not entries and not self.report.errors:
            self.report.error(
                "endpoints",
                "must list at least one endpoint, each with a name, an endpoint_type and a model",
            )
        check_stand_ins(endpoints, self.report)
        check_splits(self.splits, {each.name: each for each in endpoints if each is not None}, self.report)
        ledger = read_ledger(block.get("ledger"), self.resolver, self.report)
        time_zone = read_time_zone(block)
        config = GatewayConfig(
            tuple(endpoint for endpoint in endpoints if endpoint is not None),
            policies=read_policies(block.get("policies"), "policies", self.report),
            combine=read_combine(block),
            policies_from_groups=self._flag(block, "policies_from_groups"),
            time_zone=time_zone,
            ledger=ledger,
            store=read_store(block.get("store"), self.resolver, self.report),
            batches=read_batches(block.get("batches"), self.report),
            splits=tuple(self.splits),
            mlflow=self.mlflow,
            keys=read_keys(block.get("keys"), ledger, self.report),
            data_rules=read_data_rules(block.get("data_rules"), "data_rules", self.report),
            pools=read_pools(block.get("pools"), self.report),
            maintenance=read_maintenance(block.get("maintenance"), self.report, time_zone),
            state_hook=read_hook(block),
            proxy_from_environment=self._flag(block, "proxy_from_environment"),
            dns=read_dns(block),
        )
        self._check_pools(config)
        self._check_addresses(config)
        block.warn_unknown()
        return config

    def _check_pools(self, config: GatewayConfig) -> None:
        known = {pool.name for pool in config.pools}
        for each in (own for endpoint in config.endpoints for own in endpoint.deployments):
            if each.pool is not None and each.pool not in known:
                near = hint(each.pool, known)
                self.report.error(f"{each.path}.pool", f"{shown(each.pool)} is none of pools{near}")

    def _check_addresses(self, config: GatewayConfig) -> None:
        """Refuse what cannot be kept: a proxy resolves names itself, and where to is not seen from here."""
        for endpoint in config.endpoints if config.proxy_from_environment else ():
            for each in endpoint.deployments:
                if each.model.public_only:
                    path = f"{each.path}.model.addresses"
                    self.report.error(
                        path, "cannot be public with proxy_from_environment, as proxies decide"
                    )

    def _entries(self, block: Block, key: str) -> list[tuple[str, object]]:
        value = block.get(key)
        if value is None:
            return []
        if isinstance(value, str) or not isinstance(value, Sequence):
            block.error(key, f"must be a list, found {kind_of(value)}")
            return []
        return [(f"{key}[{index}]", entry) for index, entry in enumerate(value)]

    def _endpoint(self, path: str, entry: object, timeouts: Timeouts) -> EndpointConfig | None:
        block = Block(entry, path, self.report)
        if not block.is_mapping:
            return None
        if is_split(block):
            self.splits.append(read_split(block, self._name(block)))
            return None
        name, endpoint_type = self._name(block), self._endpoint_type(block)
        limit = read_limit(block.get("limit"), block.at("limit"), self.report)
        usual = _Usual(
            endpoint_type,
            name.endswith("*"),
            read_price(block.get("price"), block.at("price"), self.report),
            self._timeouts(block, timeouts),
            read_offer(block),
            block.text("pool"),
            read_probe(block, self.resolver),
        )
        deployments = self._deployments(block, usual)
        endpoint = EndpointConfig(
            name=name,
            endpoint_type=endpoint_type,
            model=deployments[0].model if deployments else _NOTHING,
            limit=limit,
            scope=self._scope(block),
            description=self._description(block),
            timeouts=usual.timeouts,
            path=path,
            hidden=self._flag(block, "hidden"),
            stored_responses=self._flag(block, "stored_responses"),
            price=usual.price,
            deployments=deployments,
            order=read_order(block),
            retries=read_whole(block, "retries", 0, 0, 10),
            fallbacks=read_names(block, "fallbacks"),
            at_limit=read_at_limit(block),
            aliases=self._aliases(block),
            mlflow=read_mlflow(block, self.mlflow),
            parameters=self._parameters(block, endpoint_type),
            data_class=usual.offer.data_class,
            deadline_s=read_deadline(block, self.deadline_s),
            health=read_health(block, self.health),
        )
        block.warn_unknown()
        return endpoint

    def _name(self, block: Block) -> str:
        name = block.required_text("name")
        if not name:
            return ""
        is_name = re.fullmatch(self.name_pattern, name) and name.strip(".")
        if not is_name and not re.fullmatch(PATTERN, name):
            block.error(
                "name",
                "is part of URLs, so it must be made of the letters A to Z and a to z, digits, _, - and . "
                f"alone, found {shown(name)}; the provider's own name of the model goes to model.name, and "
                "a * at the end stands for anything",
            )
        elif name in self.names:
            block.error(
                "name", f"must be different for each endpoint: {self.names[name]} is {shown(name)} too"
            )
        elif name.lower() in _PATH_WORDS:
            text = (
                f"{shown(name)} is also a word of MLflow's own paths, where some clients may not reach it"
            )
            self.report.warn(block.at("name"), text)
        self.names.setdefault(name, block.path)
        return name

    def _endpoint_type(self, block: Block) -> str:
        texts = {key: block.text(key) for key in TYPE_KEYS}
        given = {key: text for key, text in texts.items() if text is not None}
        if not given:
            block.missing("endpoint_type", f"is required: {listed(ENDPOINT_TYPES)}")
            return ""
        key, endpoint_type = next(iter(given.items()))
        if len(set(given.values())) > 1:
            block.error(
                key, f"disagrees with {' and '.join(list(given)[1:])}; they mean the same, so keep one"
            )
        elif endpoint_type and endpoint_type not in ENDPOINT_TYPES:
            near = hint(f"llm/v1/{endpoint_type.rpartition('/')[2]}", ENDPOINT_TYPES)
            block.error(key, f"must be {listed(ENDPOINT_TYPES)}, found {shown(endpoint_type)}{near}")
        return endpoint_type or ""

    def _scope(self, block: Block) -> str | None:
        scope = block.text("scope")
        if not scope:
            return None
        if scope.startswith("custom:"):
            block.error("scope", "must be the last part alone: premium for custom:SERVICE:premium")
        elif not re.fullmatch(SCOPE, scope):
            block.error(
                "scope",
                "must be made of lower-case letters a to z, digits, _, - and :, beginning with a letter or "
                f"digit and not ending in - or :, as the Hub wants it; found {shown(scope)}",
            )
        elif scope in RESERVED_SCOPES or _OPERATION_SCOPE.fullmatch(scope):
            block.error(
                "scope", f"must be a name of your own: {shown(scope)} is kept for the gateway's own scopes"
            )
        return scope

    def _description(self, block: Block) -> str | None:
        value = block.get("description")
        if value is not None and not isinstance(value, str):
            block.error("description", f"must be text, found {shown(value)}")
            return None
        return value.strip() or None if value else None

    def _flag(self, block: Block, key: str) -> bool:
        value = block.get(key)
        if value is not None and not isinstance(value, bool):
            block.error(key, f"must be true or false, found {shown(value)}")
        return value is True

    def _timeouts(self, block: Block, default: Timeouts) -> Timeouts:
        value = block.get("timeouts")
        if value is None:
            return default
        inner = Block(value, block.at("timeouts"), self.report)
        names = [each.name for each in fields(Timeouts)]
        given = {name: inner.get(name) for name in names if inner.has(name)}
        inner.refuse_unknown(names)
        for name, seconds in given.items():
            if not _is_timeout(seconds):
                text = "must be a number of seconds above 0, or null for no limit"
                inner.error(name, f"{text}, found {shown(seconds)}")
        return replace(default, **{name: _seconds(seconds) for name, seconds in given.items()})

    def _deployments(self, block: Block, usual: _Usual) -> tuple[DeploymentConfig, ...]:
        """Read where the model runs: in one place, `model`, or in those of `deployments`."""
        value = block.get("deployments")
        place = read_place(block)
        if value is None:
            model = self._model(block, usual)
            one = DeploymentConfig(
                "1",
                model,
                1.0,
                1,
                usual.price,
                usual.timeouts,
                block.path,
                offer=usual.offer,
                pool=usual.pool,
                probe=usual.probe,
                place=place,
            )
            return (one,)
        if "model" in block:
            block.error("deployments", "stands beside a model: take one of them out")
        block.get("model")
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            block.error("deployments", f"must be a list of deployments, found {kind_of(value)}")
            return ()
        path = block.at("deployments")
        found = [
            self._deployment(Block(entry, f"{path}[{index}]", self.report), str(index + 1), usual)
            for index, entry in enumerate(value)
        ]
        found = [each if each.place else replace(each, place=place) for each in found]
        names: dict[str, str] = {}
        for each in found:
            if names.setdefault(each.name, each.path) is not each.path:
                self.report.error(f"{each.path}.name", f"must be different: {names[each.name]} has it too")
        return tuple(found)

    def _deployment(self, block: Block, number: str, usual: _Usual) -> DeploymentConfig:
        name = block.text("name") or number
        if not re.fullmatch(NAME, name):
            block.error("name", f"must be letters, digits, _, - and . alone, found {shown(name)}")
        own = block.get("price")
        deployment = DeploymentConfig(
            name=name,
            model=self._model(block, usual),
            weight=read_weight(block),
            priority=read_whole(block, "priority", 1, 1, 1000),
            price=usual.price if own is None else read_price(own, block.at("price"), self.report),
            timeouts=self._timeouts(block, usual.timeouts),
            path=block.path,
            offer=read_offer(block, usual.offer),
            pool=block.text("pool") or usual.pool,
            probe=read_probe(block, self.resolver, usual.probe),
            place=read_place(block),
        )
        block.refuse_unknown()
        return deployment

    def _parameters(self, block: Block, endpoint_type: str) -> ParametersConfig | None:
        found = read_parameters(block.get("parameters"), block.at("parameters"), self.report)
        if found is not None and endpoint_type == TRANSCRIPTIONS.endpoint_type:
            block.error(
                "parameters", f"are for JSON alone, and {endpoint_type} is asked by forms with files"
            )
        return found

    def _aliases(self, block: Block) -> tuple[str, ...]:
        """Read the other names of an endpoint, which may hold slashes: they are in no path."""
        names = read_names(block, "aliases")
        for name in names:
            if not re.fullmatch(ALIAS, name):
                block.error(
                    "aliases", f"must be letters, digits, _, -, :, / and . alone, found {shown(name)}"
                )
            elif self.names.setdefault(name, block.path) != block.path:
                block.error("aliases", f"{shown(name)} is a name of {self.names[name]} already")
        return names

    def _model(self, block: Block, usual: _Usual) -> ModelConfig:
        endpoint_type = usual.endpoint_type
        value = block.get("model")
        if value is None:
            block.missing("model", "is required: a mapping with provider, name and config")
            return _NOTHING
        model = Block(value, block.at("model"), self.report)
        schema = self._provider(model)
        config = model.get("config")
        tls, public_only = read_tls(model, self.resolver), read_addresses(model)
        name = self._model_name(model, schema, "*" if usual.is_pattern else None)
        if schema is None:
            return _NOTHING
        if endpoint_type in ENDPOINT_TYPES and endpoint_type not in schema.endpoint_types:
            offered = listed(sorted(schema.endpoint_types))
            model.error("provider", f"{schema.name} cannot serve {endpoint_type}; it serves {offered}")
        self._misplaced(model, schema)
        settings, *others = read_with_keys(config, model.at("config"), schema, self.resolver, self.report)
        return ModelConfig(schema.name, name, settings, tuple(others), tls, public_only)

    def _provider(self, model: Block) -> ProviderSchema | None:
        name = model.required_text("provider")
        schema = self.providers.get(fold(name))
        if schema is None and name:
            known = sorted({schema.name for schema in self.providers.values() if not schema.retired})
            near = self.providers.get(nearest(fold(name), self.providers) or "")
            meant = f"; did you mean {near.name}?" if near else ""
            model.error("provider", f"{shown(name)} is not a provider{meant} (known: {', '.join(known)})")
        elif schema is not None and schema.retired:
            model.error("provider", schema.retired)
            return None
        return schema

    def _model_name(self, model: Block, schema: ProviderSchema | None, default: str | None) -> str | None:
        name = model.text("name")
        if name is None:
            name = default
        if name is None and schema is not None and schema.model_name_required:
            model.error("name", f"is required by the provider {schema.name}: its own name of the model")
        if not name:
            return None
        found = self.report.collect(lambda: self.resolver.text(name, model.at("name")), None)
        if schema is not None and schema.retired_models is not None and found is not None:
            gone, why = schema.retired_models
            if gone.match(found):
                model.error("name", why)
        return found

    def _misplaced(self, model: Block, schema: ProviderSchema) -> None:
        """Refuse settings that stand beside `config`: what was meant to be a key would not be used."""
        settings = {setting.name for setting in schema.settings}
        for key in model.unknown():
            if isinstance(key, str) and key in settings:
                model.error(key, f"belongs one level deeper: {model.at('config')}.{key}")
            else:
                near = hint(str(key), {"provider", "name", "config", *settings})
                self.report.warn(
                    model.at(shown_key(key)), f"is not a key of this place and is ignored{near}"
                )


def _is_timeout(value: object) -> bool:
    if value is None:
        return True
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    return 0 < value <= 1e9 and math.isfinite(value)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, (int, float)) else None
