"""The configuration as a JSON Schema (draft 2020-12), for editors that complete and check YAML.

It knows the structure and the words; what needs the environment, or several keys at once, only `parse`
knows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import fields

from ..vocabulary import Timeouts
from .limits import LIMIT_KEYS, MOST_CALLS
from .model import ENDPOINT_TYPES, ProviderSchema, Setting
from .parse import NAME, SCOPE, TYPE_KEYS

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
        },
        "anyOf": [{"required": ["endpoints"]}, {"required": ["routes"]}],
        "$defs": {
            "endpoints": {"type": ["array", "null"], "items": {"$ref": "#/$defs/endpoint"}},
            "endpoint": _endpoint(),
            "limit": _limit(),
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
                "pattern": f"^{NAME}$",
                "description": "What callers give as model.",
            },
            **{key: {**kind, "description": "What it serves."} for key in TYPE_KEYS},
            "model": {"$ref": "#/$defs/model"},
            "limit": {"anyOf": [{"$ref": "#/$defs/limit"}, {"type": "null"}]},
            "scope": {
                "type": ["string", "null"],
                "pattern": f"^{SCOPE}$",
                "description": "The last part of the scope that callers need besides: custom:SERVICE:…",
            },
            "hidden": {
                "type": ["boolean", "null"],
                "description": "Not there for those who may not use it.",
            },
            "description": {"type": ["string", "null"], "description": "A text for the list of models."},
            "timeouts": {"$ref": "#/$defs/timeouts"},
        },
        "required": ["name", "model"],
        "anyOf": [{"required": [key]} for key in TYPE_KEYS],
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
    }
    allowed: Iterable[Schema] = kinds.get(setting.kind, _REFERENCE)
    schema: Schema = {"anyOf": [*allowed, *([] if setting.required else [{"type": "null"}])]}
    if setting.help:
        schema["description"] = setting.help
    if setting.choices:
        schema["examples"] = list(setting.choices)
    return schema
