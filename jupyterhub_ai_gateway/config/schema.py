"""The configuration as a JSON Schema (draft 2020-12), for editors that complete and check YAML.

It knows the structure and the words; what needs the environment, or several keys at once, only `parse`
knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields

from ..vocabulary import Timeouts
from .batches import BOUNDS, PLACE
from .connections import ADDRESSES, dns_schema
from .health import deadline_schema, health_schema
from .limits import LIMIT_KEYS, MOST_CALLS
from .mlflow import SPLIT_MARKS, SPLIT_TYPE_KEYS, STRATEGY
from .model import COMBINES, ENDPOINT_TYPES, MLFLOW_ANSWERS, ORDERS, RESOURCES, ProviderSchema, Setting
from .parse import NAME, PATTERN, SCOPE, TYPE_KEYS
from .policies import COUNTS, SCOPES
from .prices import KINDS, PER_REQUEST, PER_SECOND, PER_UNIT
from .routing_pages import OFFER_SCHEMA, data_rule_schema, maintenance_schema, pool_schema, probe_schema

Schema = dict[str, object]

_REFERENCE: list[Schema] = [
    {"type": "string"},
    {
        "type": "object",
        "properties": {"env": {"type": "string"}, "file": {"type": "string"}},
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": False,
    },
]
"""A value that may be a key: inline, `$NAME`, or `{env: NAME}` and `{file: PATH}`."""


def json_schema(providers: Mapping[str, ProviderSchema]) -> Schema:
    """Return the schema of a whole file for these providers, by every name under which they are known."""
    schemas = {name: schema for name, schema in sorted(providers.items()) if not schema.retired}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "jupyterhub-ai-gateway configuration",
        "type": "object",
        "properties": {
            "endpoints": {"$ref": "#/$defs/endpoints"},
            "routes": {"$ref": "#/$defs/endpoints", "description": "MLflow's older name of endpoints."},
            "timeouts": {"$ref": "#/$defs/timeouts"},
            "deadline_s": deadline_schema(),
            "health": {"$ref": "#/$defs/health"},
            "dns": dns_schema(),
            "mlflow": {"$ref": "#/$defs/mlflow"},
            "policies": {"type": ["array", "null"], "items": {"$ref": "#/$defs/policy"}},
            "combine": {"enum": [*COMBINES, None], "description": "Which of several policies counts."},
            "policies_from_groups": {"type": ["boolean", "null"]},
            "time_zone": {"type": ["string", "null"], "examples": ["Europe/Berlin"]},
            "ledger": {"anyOf": [{"$ref": "#/$defs/ledger"}, {"const": False}, {"type": "null"}]},
            "batches": {"anyOf": [{"$ref": "#/$defs/batches"}, {"const": False}, {"type": "null"}]},
            "store": {"anyOf": [{"$ref": "#/$defs/store"}, {"type": "null"}]},
            "keys": {
                "type": ["object", "null"],
                "properties": {"enabled": {"type": ["boolean", "null"]}},
                "additionalProperties": False,
            },
            "maintenance": {"type": ["array", "null"], "items": {"$ref": "#/$defs/maintenance"}},
            "proxy_from_environment": {"type": ["boolean", "null"]},
            "state_hook": {"type": ["string", "null"], "examples": ["my_package.module:function"]},
            "pools": {"type": ["array", "null"], "items": {"$ref": "#/$defs/pool"}},
            "data_rules": {"type": ["array", "null"], "items": {"$ref": "#/$defs/data_rule"}},
        },
        "anyOf": [{"required": ["endpoints"]}, {"required": ["routes"]}],
        "$defs": {
            "endpoints": {"type": ["array", "null"], "items": _entry()},
            "split": _split(),
            "mlflow": _mlflow(),
            "data_rule": data_rule_schema(_scope()),
            "batches": _batches(),
            "deployment": _deployment(),
            "endpoint": _endpoint(),
            "limit": _limit(),
            "health": health_schema(),
            "ledger": _ledger(),
            "parameters": _parameters(),
            "policy": _policy(),
            "pool": pool_schema(),
            "probe": probe_schema(),
            "maintenance": maintenance_schema(),
            "price": _price(),
            "store": _store(),
            "tariff": _tariff(),
            "timeouts": _timeouts(),
            "model": _model(schemas),
        },
    }


def _endpoint() -> Schema:
    kind: Schema = {"enum": list(ENDPOINT_TYPES)}
    return {
        "type": "object",
        "properties": {
            "name": {
                "type": "string",
                "pattern": f"^(?:{NAME}|{PATTERN})$",
                "description": "What callers give as model; a * at the end stands for anything.",
            },
            **OFFER_SCHEMA,
            "probe": {"$ref": "#/$defs/probe"},
            "pool": {"type": ["string", "null"], "description": "The pool whose slots it takes."},
            **{key: {**kind, "description": "What it serves."} for key in TYPE_KEYS},
            "model": {"$ref": "#/$defs/model"},
            "deployments": {
                "type": ["array", "null"],
                "items": {"$ref": "#/$defs/deployment"},
                "minItems": 1,
                "description": "Where the model runs, in place of model.",
            },
            "order": {"enum": [*ORDERS, None]},
            "retries": {"type": ["integer", "null"], "minimum": 0, "maximum": 10},
            "fallbacks": {"anyOf": [_NAMES, {"type": "null"}]},
            "at_limit": {
                "type": ["object", "null"],
                "properties": {"use": _NAMES},
                "required": ["use"],
                "additionalProperties": False,
                "description": "Who serves the requests for which a budget has too little left.",
            },
            "aliases": {"anyOf": [_NAMES, {"type": "null"}]},
            **_PLACE,
            "limit": {"anyOf": [{"$ref": "#/$defs/limit"}, {"type": "null"}]},
            "price": {"$ref": "#/$defs/price"},
            "scope": {
                "type": ["string", "null"],
                "pattern": f"^{SCOPE}$",
                "description": "The last part of the scope that callers need besides: custom:SERVICE:…",
            },
            "stored_responses": {"type": ["boolean", "null"]},
            "hidden": {
                "type": ["boolean", "null"],
                "description": "Not there for those who may not use it.",
            },
            "description": {"type": ["string", "null"], "description": "A text for the list of models."},
            "timeouts": {"$ref": "#/$defs/timeouts"},
            "deadline_s": deadline_schema(),
            "health": {"$ref": "#/$defs/health"},
            "mlflow": {"$ref": "#/$defs/mlflow"},
            "parameters": {"anyOf": [{"$ref": "#/$defs/parameters"}, {"type": "null"}]},
        },
        "required": ["name"],
        "allOf": [
            {"anyOf": [{"required": [key]} for key in TYPE_KEYS]},
            {"anyOf": [{"required": ["model"]}, {"required": ["deployments"]}]},
        ],
    }


def _entry() -> Schema:
    return {
        "if": {"anyOf": [{"required": [key]} for key in SPLIT_MARKS]},
        "then": {"$ref": "#/$defs/split"},
        "else": {"$ref": "#/$defs/endpoint"},
    }


def _split() -> Schema:
    destination: Schema = {
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "traffic_percentage": {"type": "integer", "minimum": 0, "maximum": 100},
        },
        "required": ["name", "traffic_percentage"],
    }
    return {
        "type": "object",
        "description": "A traffic split, as MLflow 3.8 writes it.",
        "properties": {
            "name": {"type": "string", "pattern": f"^{NAME}$"},
            **{key: {"enum": list(ENDPOINT_TYPES)} for key in SPLIT_TYPE_KEYS},
            "destinations": {"type": "array", "items": destination, "minItems": 1},
            "routing_strategy": {"type": ["string", "null"], "examples": [STRATEGY]},
        },
        "required": ["name", "destinations"],
        "anyOf": [{"required": [key]} for key in SPLIT_TYPE_KEYS],
    }


def _mlflow() -> Schema:
    return {
        "type": ["object", "null"],
        "description": "How MLflow's paths are answered.",
        "properties": {
            "answers": {"enum": [*MLFLOW_ANSWERS, None]},
            "scale_temperature": {"type": ["boolean", "null"]},
            "model_in_body": {"enum": ["refuse", "ignore", None]},
            "default_temperature": {"type": ["number", "null"], "minimum": 0, "maximum": 2},
        },
        "additionalProperties": False,
    }


def _limit() -> Schema:
    return {
        "type": "object",
        "properties": {
            "calls": {"type": "integer", "minimum": 1, "maximum": MOST_CALLS},
            "renewal_period": {"type": "string", "examples": ["minute", "5 minutes", "day"]},
            "key": {"enum": [*LIMIT_KEYS, None]},
        },
        "required": ["calls", "renewal_period"],
    }


_NAMES: Schema = {
    "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}],
    "description": "Names, in which * stands for anything.",
}
_PLACE: Schema = {
    key: {
        "type": ["string", "null"],
        "pattern": f"^{PLACE}$",
        "description": f"The {key} of FIRST's paths, /resource_server/CLUSTER/FRAMEWORK/v1/….",
    }
    for key in ("cluster", "framework")
}
_DAY: Schema = {"type": ["string", "null"], "examples": ["2026-10-01"]}
_DOLLARS: Schema = {"type": ["number", "string", "null"], "description": "In dollars."}


def _batches() -> Schema:
    numbers: Schema = {
        name: {"type": ["integer", "null"], "minimum": least, "maximum": most}
        for name, (least, most) in BOUNDS.items()
    }
    folders: Schema = {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]}
    return {
        "type": "object",
        "properties": {
            "folder": {"type": "string", "description": "Where files and jobs are kept."},
            "input_folders": {**folders, "description": "Below which jobs may name input files."},
            "output_folders": {**folders, "description": "Below which jobs may have results written."},
            **numbers,
            "lease_s": {"type": ["number", "null"], "description": "In seconds."},
        },
        "required": ["folder"],
        "additionalProperties": False,
    }


def _deployment() -> Schema:
    return {
        "type": "object",
        "properties": {
            "name": {"type": ["string", "null"], "pattern": f"^{NAME}$"},
            "model": {"$ref": "#/$defs/model"},
            "weight": {"type": ["number", "null"], "minimum": 0},
            "priority": {"type": ["integer", "null"], "minimum": 1},
            **_PLACE,
            "price": {"$ref": "#/$defs/price"},
            "timeouts": {"$ref": "#/$defs/timeouts"},
            "pool": {"type": ["string", "null"]},
            "probe": {"$ref": "#/$defs/probe"},
            **OFFER_SCHEMA,
        },
        "required": ["model"],
        "additionalProperties": False,
    }


def _parameters() -> Schema:
    names: Schema = {"type": ["array", "null"], "items": {"type": "string"}}
    number: Schema = {"type": "number"}
    bounds: Schema = {"type": "object", "properties": {"min": number, "max": number}, "minProperties": 1}
    bound: Schema = {"anyOf": [number, {**bounds, "additionalProperties": False}]}
    mapping: Schema = {"type": ["object", "null"]}
    return {
        "type": "object",
        "properties": {
            "drop": {**names, "examples": [["logit_bias", "tools.web_search*"]]},
            "error": names,
            "rename": {**mapping, "additionalProperties": {"type": "string"}},
            "default": mapping,
            "clamp": {**mapping, "additionalProperties": bound},
        },
        "minProperties": 1,
        "additionalProperties": False,
        "description": "What becomes of the fields that callers send.",
    }


def _scope() -> Schema:
    return {
        "anyOf": [
            {"enum": ["everyone", None]},
            {
                "type": "object",
                "properties": dict.fromkeys(SCOPES, _NAMES),
                "additionalProperties": False,
                "minProperties": 1,
            },
        ]
    }


def _policy() -> Schema:
    return {
        "type": "object",
        "properties": {
            "name": {"type": ["string", "null"]},
            "resource": {"enum": list(RESOURCES)},
            "limit": {"type": ["number", "string"], "description": "A number, or dollars for cost_usd."},
            "window": {"type": ["string", "null"], "examples": ["minute", "5 minutes", "day", "term"]},
            "rolling": {"type": ["boolean", "null"]},
            "scope": _scope(),
            "endpoints": {"anyOf": [_NAMES, {"type": "null"}]},
            "count": {"enum": [*COUNTS, None]},
            "priority": {"type": ["integer", "null"]},
            "shadow": {"type": ["boolean", "null"]},
            "unpriced": {"enum": ["deny", "allow", None]},
            "when_store_fails": {"enum": ["open", "closed", None]},
            "starts": _DAY,
            "ends": _DAY,
        },
        "required": ["resource", "limit"],
        "additionalProperties": False,
    }


def _price() -> Schema:
    tariff: Schema = {"$ref": "#/$defs/tariff"}
    return {
        "anyOf": [
            tariff,
            {"type": "array", "items": tariff, "minItems": 1},
            {"const": 0, "description": "Free."},
            {"type": "null"},
        ]
    }


def _tariff() -> Schema:
    kinds: Schema = dict.fromkeys(KINDS, _DOLLARS)
    above: Schema = {
        "type": "object",
        "properties": {"input_tokens": {"type": "integer", "minimum": 1}, **kinds},
        "required": ["input_tokens"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {
            **kinds,
            PER_REQUEST: _DOLLARS,
            PER_SECOND: _DOLLARS,
            **dict.fromkeys(PER_UNIT, _DOLLARS),
            "above": {"type": ["array", "null"], "items": above},
            "hours": {"type": ["string", "null"], "examples": ["16:30-00:30"]},
        },
        "minProperties": 1,
        "additionalProperties": False,
    }


def _ledger() -> Schema:
    seconds: Schema = {"type": ["number", "null"], "description": "In seconds."}
    return {
        "type": "object",
        "properties": {
            "url": {"anyOf": [*_REFERENCE, {"type": "null"}]},
            "journal": {"type": ["string", "null"]},
            "flush_s": seconds,
            "fail_open_s": seconds,
            "retention_days": {"type": ["integer", "null"], "minimum": 1},
        },
        "additionalProperties": False,
    }


def _store() -> Schema:
    return {
        "type": "object",
        "properties": {
            "url": {"anyOf": _REFERENCE},
            "prefix": {"type": ["string", "null"]},
            "timeout_s": {"type": ["number", "null"], "description": "In seconds."},
        },
        "required": ["url"],
        "additionalProperties": False,
    }


def _timeouts() -> Schema:
    seconds: Schema = {"type": ["number", "null"], "exclusiveMinimum": 0, "description": "In seconds."}
    return {
        "type": ["object", "null"],
        "properties": {each.name: seconds for each in fields(Timeouts)},
        "additionalProperties": False,
    }


def _model(schemas: Mapping[str, ProviderSchema]) -> Schema:
    return {
        "type": "object",
        "properties": {
            "provider": {"type": "string", "examples": sorted(schemas)},
            "name": {"type": ["string", "null"]},
            "addresses": {"enum": [*ADDRESSES, None]},
            "tls": {
                "type": ["object", "null"],
                "properties": {each: {"type": "string"} for each in ("ca_file", "cert_file", "key_file")},
                "additionalProperties": False,
            },
        },
        "required": ["provider"],
        "allOf": [_provider_rule(name, schema) for name, schema in schemas.items()],
    }


def _provider_rule(name: str, schema: ProviderSchema) -> Schema:
    """Say what follows from a provider's name, whichever way it is spelled."""
    spelled = "".join(
        "[-_]" if letter in "-_" else f"[{letter.lower()}{letter.upper()}]" if letter.isalpha() else letter
        for letter in name
    )
    required = [setting.name for setting in schema.settings if setting.required]
    config: Schema = {
        "type": "object" if required else ["object", "null"],
        "properties": {setting.name: _setting(setting) for setting in schema.settings},
        "required": required,
        "additionalProperties": False,
    }
    needed = [*(["config"] if required else []), *(["name"] if schema.model_name_required else [])]
    return {
        "if": {
            "properties": {"provider": {"pattern": f"^{spelled.replace('.', '[.]')}$"}},
            "required": ["provider"],
        },
        "then": {"properties": {"config": config}, "required": needed},
    }


def _setting(setting: Setting) -> Schema:
    kinds: dict[str, list[Schema]] = {
        "flag": [{"type": "boolean"}],
        "headers": [{"type": "object", "additionalProperties": {"anyOf": _REFERENCE}}],
        "secret": [*_REFERENCE, {"type": "array", "items": {"anyOf": _REFERENCE}, "minItems": 1}],
        "whole": [{"type": "integer", "minimum": 1}],
        "group": [
            {
                "type": "object",
                "properties": {each.name: _setting(each) for each in setting.settings},
                "required": [each.name for each in setting.settings if each.required],
                "additionalProperties": False,
            }
        ],
        "json": [*_REFERENCE, {"type": "object"}],
        "words": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
    }
    allowed: Iterable[Schema] = kinds.get(setting.kind, _REFERENCE)
    schema: Schema = {"anyOf": [*allowed, *([] if setting.required else [{"type": "null"}])]}
    if setting.help:
        schema["description"] = setting.help
    if setting.choices:
        schema["examples"] = list(setting.choices)
    return schema
