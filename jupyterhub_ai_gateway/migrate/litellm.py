"""LiteLLM's proxy: `model_list`, its router, its fallbacks, and limits.

Source: docs.litellm.ai/docs/proxy/configs, /docs/proxy/config_settings; proxy_server_config.yaml of
BerriAI/litellm (read 2026-11).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from .draft import (
    CHAT,
    COMPLETIONS,
    EMBEDDINGS,
    Draft,
    Entry,
    Migration,
    NotThisFormat,
    entries,
    kind_by_name,
    mapping,
    named_variables,
    scope_name,
    unused,
)

ENV = "os.environ/"
_OPENAI_BASES = ("", "https://api.openai.com", "https://api.openai.com/v1")


class _Host(NamedTuple):
    """A provider of ours, and what it calls its key and its address."""

    provider: str
    key: str | None = "api_key"
    base: str = "api_base"


_HOSTS: Mapping[str, _Host] = {
    "openai": _Host("openai", "openai_api_key", "openai_api_base"),
    "text-completion-openai": _Host("openai", "openai_api_key", "openai_api_base"),
    "anthropic": _Host("anthropic", "anthropic_api_key", "anthropic_api_base"),
    "mistral": _Host("mistral", "mistral_api_key"),
    "together_ai": _Host("togetherai", "togetherai_api_key"),
    "gemini": _Host("gemini", "gemini_api_key", "gemini_api_base"),
    "cohere": _Host("cohere", "cohere_api_key"),
    "fireworks_ai": _Host("fireworks"),
    "nvidia_nim": _Host("nvidia"),
    "hosted_vllm": _Host("vllm"),
    "vllm": _Host("vllm"),
    "ollama": _Host("ollama"),
    "ollama_chat": _Host("ollama"),
    "lm_studio": _Host("lm-studio"),
    "litellm_proxy": _Host("litellm"),
    "azure_ai": _Host("openai-compatible"),
    "openai_like": _Host("openai-compatible"),
    "custom_openai": _Host("openai-compatible"),
    **{name: _Host(name) for name in ("groq", "deepseek", "openrouter", "xai", "perplexity", "cerebras")},
    **{name: _Host(name) for name in ("deepinfra", "scaleway", "nebius")},
}
_WITH_V1 = ("ollama", "ollama_chat")
"""LiteLLM takes their address without /v1."""
_BY_NAME = (("claude", "anthropic"), ("gemini", "gemini"), ("mistral-", "mistral"), ("command", "cohere"))
_MODES = {"chat": CHAT, "completion": COMPLETIONS, "embedding": EMBEDDINGS, "responses": CHAT}
_ORDERS = {
    "simple-shuffle": "weighted",
    "least-busy": "least_in_flight",
    "latency-based-routing": "lowest_latency",
    "cost-based-routing": "cheapest",
}
_AWS_TEXTS = (("aws_region_name", "aws_region"), ("aws_role_name", "aws_role_arn"))
_AWS_KEYS = ("aws_access_key_id", "aws_secret_access_key", "aws_session_token")
_VERTEX = ("vertex_project", "vertex_location", "vertex_credentials")
_COSTS = (
    ("input_cost_per_token", "input_per_mtok"),
    ("output_cost_per_token", "output_per_mtok"),
    ("cache_read_input_token_cost", "cache_read_per_mtok"),
)
_PARAMS = (
    *("model", "api_key", "api_base", "base_url", "api_version", "organization", "rpm", "tpm", "weight"),
    *("order", "timeout", "stream_timeout", "input_cost_per_token", "output_cost_per_token", "headers"),
    *("aws_region_name", "aws_role_name", *_AWS_KEYS, *_VERTEX),
    *("extra_headers", "custom_llm_provider", "cache_read_input_token_cost", "max_parallel_requests"),
)
_SETTINGS = (
    *("num_retries", "request_timeout", "fallbacks", "default_fallbacks"),
    *("drop_params", "telemetry", "set_verbose", "json_logs"),
)
_ROUTER = ("routing_strategy", "num_retries", "timeout", "fallbacks", "model_group_alias")


def from_litellm(document: object) -> Migration:
    """Turn a LiteLLM proxy's configuration into ours: a model group is an endpoint with deployments."""
    top = mapping(document, "LiteLLM's configuration")
    models = entries(top.get("model_list"), "model_list")
    if not models:
        raise NotThisFormat("There is no model_list in it, as LiteLLM's configuration has.")
    draft = Draft(frozenset(named_variables(top)))
    router = mapping(top.get("router_settings"), "router_settings")
    settings = mapping(top.get("litellm_settings"), "litellm_settings")
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for each in models:
        entry = mapping(each, "An entry of model_list")
        groups.setdefault(str(entry.get("model_name")), []).append(entry)
    for name, group in groups.items():
        _group(draft, name, group, {**settings, **router})
    _relate(draft, settings, router)
    _timeouts(draft, settings, router)
    _notes(draft, top, settings, router)
    return draft.migration()


def _group(draft: Draft, name: str, group: list[Mapping[str, Any]], settings: Mapping[str, Any]) -> None:
    kinds = {_kind(draft, name, each) for each in group} - {None}
    if len(kinds) != 1:
        why = "its kind of model is not served here" if not kinds else "its models are of several kinds"
        draft.note(f"{name}: left out: {why}.")
        return
    deployments = [each for each in (_deployment(draft, name, theirs) for theirs in group) if each]
    if not deployments:
        return
    entry: Entry = {"endpoint_type": kinds.pop()}
    if len(deployments) == 1:
        only = deployments[0]
        entry |= {key: only[key] for key in ("model", "price", "timeouts") if key in only}
    else:
        entry["deployments"] = deployments
        order = _ORDERS.get(str(settings.get("routing_strategy", "simple-shuffle")))
        if order not in (None, "weighted"):
            entry["order"] = order
    retries = settings.get("num_retries")
    if isinstance(retries, int) and retries > 0:
        entry["retries"] = min(retries, 10)
    _restrict(draft, name, entry, group)
    ours = draft.add(name, entry)
    _limits(draft, ours, group)


def _kind(draft: Draft, name: str, theirs: Mapping[str, Any]) -> str | None:
    info = mapping(theirs.get("model_info"), f"{name}: model_info")
    model = str(mapping(theirs.get("litellm_params"), f"{name}: litellm_params").get("model", ""))
    mode = info.get("mode")
    if mode is not None:
        return _MODES.get(str(mode))
    if model.startswith("text-completion-"):
        return COMPLETIONS
    if any(word in model.lower() for word in ("dall-e", "whisper", "tts", "rerank", "gpt-image")):
        return None
    return kind_by_name(model)


def _deployment(draft: Draft, name: str, theirs: Mapping[str, Any]) -> Entry | None:
    params = mapping(theirs.get("litellm_params"), f"{name}: litellm_params")
    provider, model = _split(params)
    where = f"{name} ({params.get('model')})"
    special = _SPECIAL.get(provider)
    made = None if special is None else special(draft, params, model, where)
    host = _HOSTS.get(provider)
    if made is None and host is None:
        draft.note(f"{where}: left out: there is no provider {provider} here.")
        return None
    found: Entry = {
        "model": made or _model(draft, host or _HOSTS["openai"], provider, model, params, where)
    }
    for key, ours in (("weight", "weight"), ("order", "priority")):
        if params.get(key) is not None:
            found[ours] = params[key]
    price = _price(params)
    if price:
        found["price"] = price if any(price.values()) else 0
    timeouts = _waits(params.get("timeout"), params.get("stream_timeout"))
    if timeouts:
        found["timeouts"] = timeouts
    ignored = unused(params, _PARAMS)
    if ignored:
        draft.note(f"{where}: {', '.join(ignored)} has no counterpart here.")
    return found


def _price(params: Mapping[str, Any]) -> Entry:
    """Return dollars per million tokens."""
    costs = {ours: params.get(key) for key, ours in _COSTS}
    return {
        ours: round(cost * 1e6, 9)
        for ours, cost in costs.items()
        if isinstance(cost, (int, float)) and not isinstance(cost, bool)
    }


def _split(params: Mapping[str, Any]) -> tuple[str, str]:
    """Return the provider and its name of the model; LiteLLM knows some models by their name alone."""
    text = str(params.get("model", ""))
    given = params.get("custom_llm_provider")
    if given:
        return str(given), text.removeprefix(f"{given}/")
    provider, slash, model = text.partition("/")
    if slash and (provider in _HOSTS or provider in _SPECIAL or not params.get("api_base")):
        return provider, model
    for start, host in _BY_NAME:
        if text.startswith(start):
            return host, text
    return "openai", text


def _text(draft: Draft, value: object) -> str:
    text = str(value).strip()
    return draft.variable(text.removeprefix(ENV)) if text.startswith(ENV) else text


def _key(draft: Draft, value: object, hint: str, where: str) -> Any:
    text = str(value)
    if text.startswith(ENV):
        return draft.variable(text.removeprefix(ENV))
    return draft.key(value, hint, f"{where}: api_key")


def _azure(draft: Draft, params: Mapping[str, Any], model: str, where: str) -> Entry:
    config: Entry = {"openai_api_type": "azure"}
    key = params.get("api_key") or f"{ENV}AZURE_API_KEY"
    config["openai_api_key"] = _key(draft, key, "azure", where)
    base = params.get("api_base") or params.get("base_url") or f"{ENV}AZURE_API_BASE"
    config["openai_api_base"] = _text(draft, base).rstrip("/")
    if params.get("api_version"):
        config["openai_api_version"] = _text(draft, params["api_version"])
        config["openai_deployment_name"] = model
    return {"provider": "openai", "name": model, "config": config}


def _bedrock(draft: Draft, params: Mapping[str, Any], model: str, where: str) -> Entry:
    for way in ("converse/", "converse_like/", "invoke/"):
        model = model.removeprefix(way)
    aws: Entry = {
        ours: _text(draft, params[theirs]) for theirs, ours in _AWS_TEXTS if params.get(theirs) is not None
    }
    aws |= {
        name: _key(draft, params[name], name, where) for name in _AWS_KEYS if params.get(name) is not None
    }
    return {"provider": "bedrock", "name": model, **({"config": {"aws_config": aws}} if aws else {})}


def _vertex(draft: Draft, params: Mapping[str, Any], model: str, where: str) -> Entry:
    config: Entry = {
        "vertex_project": _text(draft, params.get("vertex_project") or f"{ENV}VERTEXAI_PROJECT"),
    }
    if params.get("vertex_location"):
        config["vertex_location"] = _text(draft, params["vertex_location"])
    if params.get("vertex_credentials"):
        config["vertex_credentials"] = _key(draft, params["vertex_credentials"], "vertex", where)
    return {"provider": "vertex_ai", "name": model, "config": config}


def _databricks(draft: Draft, params: Mapping[str, Any], model: str, where: str) -> Entry:
    host = _text(draft, params.get("api_base") or f"{ENV}DATABRICKS_HOST").rstrip("/")
    config: Entry = {
        "host": host.removesuffix("/serving-endpoints"),
        "token": _key(draft, params.get("api_key") or f"{ENV}DATABRICKS_API_KEY", "databricks", where),
    }
    return {"provider": "databricks", "name": model, "config": config}


_SPECIAL: Mapping[str, Callable[[Draft, Mapping[str, Any], str, str], Entry]] = {
    "azure": _azure,
    "bedrock": _bedrock,
    "bedrock_converse": _bedrock,
    "databricks": _databricks,
    "vertex_ai": _vertex,
}


def _model(
    draft: Draft, host: _Host, provider: str, model: str, params: Mapping[str, Any], where: str
) -> Entry:
    base = params.get("api_base") or params.get("base_url")
    url = "" if base is None else _text(draft, base).rstrip("/")
    if host.provider == "openai" and url not in _OPENAI_BASES:
        host, provider = _Host("openai-compatible"), "openai-compatible"
    config: Entry = {}
    if params.get("api_key"):
        config[host.key or "api_key"] = _key(draft, params["api_key"], provider, where)
    elif host.key not in (None, "api_key"):
        config[str(host.key)] = draft.variable(f"{provider.upper().replace('-', '_')}_API_KEY")
    elif provider in ("groq", "deepseek", "openrouter", "xai", "perplexity", "cerebras", "deepinfra"):
        config["api_key"] = draft.variable(f"{provider.upper()}_API_KEY")
    if url and url not in _OPENAI_BASES:
        config[host.base] = f"{url}/v1" if provider in _WITH_V1 and not url.startswith("$") else url
    if host.provider == "openai" and params.get("organization"):
        config["openai_organization"] = _text(draft, params["organization"])
    headers = params.get("extra_headers") or params.get("headers")
    if isinstance(headers, Mapping):
        names = ", ".join(map(str, headers))
        draft.note(f"{where}: the headers {names} were left out; add them as model.config.headers.")
    return {"provider": host.provider, "name": model, "config": config}


def _waits(timeout: object, stream_timeout: object) -> Entry:
    """Turn LiteLLM's timeouts, which are of each wait for the provider, into ours."""
    seconds = timeout if isinstance(timeout, (int, float)) else stream_timeout
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or seconds <= 0:
        return {}
    return {"first_byte_s": seconds, "idle_s": seconds}


def _restrict(draft: Draft, name: str, entry: Entry, group: list[Mapping[str, Any]]) -> None:
    """Put a scope before a model of an access group, which not everybody could use."""
    groups = sorted(
        {
            str(each)
            for theirs in group
            for each in mapping(theirs.get("model_info"), "model_info").get("access_groups") or ()
        }
    )
    if groups:
        entry["scope"] = scope_name(groups[0])
        draft.note(
            f"{name}: was for the access groups {', '.join(groups)}. It needs the scope "
            f"custom:SERVICE:{entry['scope']} now: grant that to groups of the Hub."
        )


def _limits(draft: Draft, ours: Entry, group: list[Mapping[str, Any]]) -> None:
    """Turn what all deployments together may do in a minute into limits of the endpoint."""
    name = ours["name"]
    params = [{**theirs, **mapping(theirs.get("litellm_params"), "litellm_params")} for theirs in group]
    for key, resource in (("rpm", "requests"), ("tpm", "tokens")):
        numbers = [each.get(key) for each in params]
        total = sum(each for each in numbers if isinstance(each, int))
        if total <= 0:
            continue
        if not all(isinstance(each, int) for each in numbers):
            draft.note(f"{name}: {key} is set for some of its deployments alone, and was left out.")
            continue
        draft.policies.append(
            {
                "name": f"{name} {key}",
                "resource": resource,
                "limit": total,
                "window": "minute",
                "count": "all",
                "endpoints": [name],
            }
        )


def _relate(draft: Draft, settings: Mapping[str, Any], router: Mapping[str, Any]) -> None:
    """Carry aliases of groups, and which group stands in for which."""
    for alias, target in mapping(router.get("model_group_alias"), "model_group_alias").items():
        name = target.get("model") if isinstance(target, Mapping) else target
        if not draft.alias(str(alias), str(name)):
            draft.note(f"{alias}: is an alias of {name}, which is not there; it was left out.")
    for source in (settings, router):
        for pair in entries(source.get("fallbacks"), "fallbacks"):
            for name, others in mapping(pair, "A fallback").items():
                _fall_back(draft, str(name), entries(others, "The fallbacks of a model"))
    usual = entries(settings.get("default_fallbacks"), "default_fallbacks")
    for theirs in list(draft.names):
        if usual and theirs not in map(str, usual):
            _fall_back(draft, theirs, usual)


def _fall_back(draft: Draft, name: str, others: Any) -> None:
    ours = draft.names.get(name)
    if ours is None:
        draft.note(f"{name}: has fallbacks, and is not there; they were left out.")
        return
    wanted = [draft.names.get(str(other), str(other)) for other in others]
    known = draft.endpoints[ours].setdefault("fallbacks", [])
    known += [each for each in wanted if each not in known and each != ours]
    if not known:
        del draft.endpoints[ours]["fallbacks"]


def _timeouts(draft: Draft, settings: Mapping[str, Any], router: Mapping[str, Any]) -> None:
    waits = _waits(router.get("timeout", settings.get("request_timeout")), None)
    if waits:
        draft.top["timeouts"] = waits


def _notes(
    draft: Draft, top: Mapping[str, Any], settings: Mapping[str, Any], router: Mapping[str, Any]
) -> None:
    """Name what was not carried, by its keys; what needs no word is what this gateway does anyway."""
    strategy = router.get("routing_strategy")
    if strategy is not None and strategy not in _ORDERS:
        draft.note(f"router_settings.routing_strategy: {strategy} is not there; deployments are weighted.")
    for section, found, known in (
        ("litellm_settings", settings, _SETTINGS),
        ("router_settings", router, (*_ROUTER, "enable_pre_call_checks")),
        ("general_settings", mapping(top.get("general_settings"), "general_settings"), ()),
        ("environment_variables", mapping(top.get("environment_variables"), "environment_variables"), ()),
    ):
        for key in unused(found, known):
            draft.note(_REMARKS.get(key, f"{section}.{key}: has no counterpart here, and was left out."))
    for key in unused(top, (*_SECTIONS, "model_list")):
        draft.note(f"{key}: has no counterpart here, and was left out.")


_SECTIONS = ("litellm_settings", "router_settings", "general_settings", "environment_variables")
_REMARKS = {
    "master_key": "general_settings.master_key: callers use their tokens of the Hub.",
    "database_url": "general_settings.database_url: the ledger keeps what was used; see ledger.url.",
    "redis_host": "router_settings.redis_host: for several gateways with common limits, see store.url.",
    "max_budget": "litellm_settings.max_budget: budgets are policies of the resource cost_usd.",
}
