"""What configurations mean, and what is said of those that mean nothing."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from jupyterhub_ai_gateway.config import (
    GatewayConfig,
    LimitConfig,
    Secret,
    json_schema,
    load,
    parse,
    period_s,
)
from jupyterhub_ai_gateway.errors import ConfigFault
from jupyterhub_ai_gateway.providers.registry import Providers
from jupyterhub_ai_gateway.vocabulary import Timeouts

SCHEMAS = Providers.installed().schemas
AI21 = {"ai21labs_api_key": "sk-of-ai21"}
KEY = "sk-a-key-that-must-not-be-seen"
VALIDATOR = Draft202012Validator(json_schema(SCHEMAS))


def entry(**more: Any) -> dict[str, Any]:
    model = {"provider": "openai", "name": "gpt-4o-mini", "config": {"openai_api_key": KEY}}
    return {"name": "chat", "endpoint_type": "llm/v1/chat", "model": model, **more}


def model(**config: Any) -> dict[str, Any]:
    return {"provider": "openai", "name": "m", "config": {"openai_api_key": KEY, **config}}


def read(document: Any, **environ: str) -> GatewayConfig:
    return parse(document, SCHEMAS, environ)


def problem_of(document: Any, **environ: str) -> str:
    with pytest.raises(ConfigFault) as caught:
        read(document, **environ)
    assert KEY not in str(caught.value)
    return str(caught.value)


def test_original_gateway_s_file_is_read() -> None:
    text = """
    endpoints:
      - name: chat
        endpoint_type: llm/v1/chat
        model:
          provider: openai
          name: gpt-4o-mini
          config:
            openai_api_key: $OPENAI_API_KEY
        limit:
          renewal_period: minute
          calls: 10
      - name: vectors
        endpoint_type: llm/v1/embeddings
        model: {provider: openai, name: text-embedding-3-small, config: {openai_api_key: $OPENAI_API_KEY}}
    """
    document = yaml.safe_load(text)
    VALIDATOR.validate(document)
    config = read(document, OPENAI_API_KEY=KEY)
    chat, vectors = config.endpoints
    assert (chat.name, chat.endpoint_type, chat.path) == ("chat", "llm/v1/chat", "endpoints[0]")
    assert chat.limit == LimitConfig(10, 60.0, "user", "minute")
    assert chat.model.settings["openai_api_key"] == Secret(KEY)
    assert (vectors.limit, vectors.scope, vectors.hidden) == (None, None, False)
    assert config.warnings == ()


@pytest.mark.parametrize("list_key", ["endpoints", "routes"])
@pytest.mark.parametrize("type_key", ["endpoint_type", "route_type", "type"])
def test_every_spelling_means_the_same(list_key: str, type_key: str) -> None:
    own = entry()
    own[type_key] = own.pop("endpoint_type")
    document = {list_key: [own]}
    VALIDATOR.validate(document)
    endpoint = read(document).endpoints[0]
    assert (endpoint.name, endpoint.endpoint_type) == ("chat", "llm/v1/chat")


def test_both_lists_are_one() -> None:
    names = [each.name for each in read({"endpoints": [entry()], "routes": [entry(name="b")]}).endpoints]
    assert names == ["chat", "b"]


@pytest.mark.parametrize("provider", ["OpenAI", "openai", " OPENAI "])
def test_provider_is_known_however_it_is_spelled(provider: str) -> None:
    assert (
        read({"endpoints": [entry(model=model() | {"provider": provider})]}).endpoints[0].model.provider
        == "openai"
    )


def test_all_that_an_endpoint_may_say() -> None:
    own = entry(scope="premium", hidden=True, description=" Dear ", timeouts={"idle_s": 5, "total_s": None})
    document = {"timeouts": {"connect_s": 2.5}, "endpoints": [own]}
    VALIDATOR.validate(document)
    endpoint = read(document).endpoints[0]
    assert (endpoint.scope, endpoint.hidden, endpoint.description) == ("premium", True, "Dear")
    assert endpoint.timeouts == Timeouts(connect_s=2.5, idle_s=5.0, total_s=None)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("second", 1),
        ("minute", 60),
        ("5 minutes", 300),
        ("2 Hours", 7200),
        ("DAY", 86400),
        ("1 month", 2592000),
        ("year", 31536000),
        (" 3  days ", 259200),
        ("", None),
        ("fortnight", None),
        ("0 days", None),
        ("-1 day", None),
        ("1.5 hours", None),
        ("minute minute", None),
    ],
)
def test_renewal_periods_are_mlflow_s(text: str, seconds: float | None) -> None:
    assert period_s(text) == seconds


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, "endpoints: is missing: the configuration must be a mapping, found nothing"),
        ([], "endpoints: is missing"),
        ({}, "endpoints: must list at least one endpoint"),
        ({"endpoints": {}}, "endpoints: must be a list, found a mapping"),
        ({"endpoints": [7]}, "endpoints[0]: must be a mapping, found a number"),
        ({"endpoints": [{}]}, "endpoints[0].name: is required"),
        ({"endpoints": [entry(name="a b")]}, "endpoints[0].name: is part of URLs"),
        ({"endpoints": [entry(name="..")]}, "endpoints[0].name: is part of URLs"),
        ({"endpoints": [entry(name=7)]}, "endpoints[0].name: must be text, found 7; put it in quotes"),
        ({"endpoints": [entry(), entry()]}, "endpoints[1].name: must be different for each endpoint"),
        ({"endpoints": [entry(endpoint_type="llm/v1/chatt")]}, "did you mean llm/v1/chat?"),
        ({"endpoints": [entry(type="llm/v1/embeddings")]}, "disagrees with type"),
        ({"endpoints": [entry(model=None)]}, "endpoints[0].model: is required"),
        ({"endpoints": [entry(model={"provider": "opnai"})]}, "did you mean openai?"),
        ({"endpoints": [entry(model={"provider": "palm", "name": "x"})]}, "is gone"),
        ({"endpoints": [entry(model={"provider": "MosaicML", "name": "x"})]}, "is gone"),
        (
            {"endpoints": [entry(model={"provider": "ai21labs", "name": "j2-ultra", "config": AI21})]},
            "endpoints[0].model.name: is gone",
        ),
        ({"endpoints": [entry(model={"provider": "sap-ai-core", "name": "x"})]}, "is not served"),
        ({"endpoints": [entry(model={"provider": "typesafe", "name": "x"})]}, "is not served"),
        ({"endpoints": [entry(model=model(openai_api_key=None))]}, "openai_api_key: is required"),
        (
            {"endpoints": [entry(model=model(openai_api_kee="x"))]},
            "is not a key of this place; did you mean",
        ),
        (
            {"endpoints": [entry(model=model() | {"openai_api_base": "http://x"})]},
            "belongs one level deeper",
        ),
        ({"endpoints": [entry(model=model(openai_api_base="localhost"))]}, "must be a URL"),
        ({"endpoints": [entry(model=model(openai_api_base="http://u:p@x"))]}, "user name or password"),
        ({"endpoints": [entry(model=model(openai_api_type="azurre"))]}, "did you mean azure?"),
        ({"endpoints": [entry(model=model(openai_api_type="azure"))]}, "openai_api_base: is required by"),
        ({"endpoints": [entry(model=model(openai_api_key="$NOT_SET"))]}, "variable NOT_SET is not set"),
        ({"endpoints": [entry(model=model(openai_api_key="$EMPTY"))]}, "variable EMPTY is empty"),
        ({"endpoints": [entry(model=model(openai_api_key="two words"))]}, "so it is no key"),
        (
            {"endpoints": [entry(model=model(openai_api_key={"file": "/no/such"}))]},
            "its file cannot be read",
        ),
        (
            {"endpoints": [entry(limit={"calls": 0, "renewal_period": "day"})]},
            "limit.calls: must be a whole",
        ),
        (
            {"endpoints": [entry(limit={"calls": True, "renewal_period": "day"})]},
            "limit.calls: must be a whole",
        ),
        ({"endpoints": [entry(limit={"calls": 1})]}, "limit.renewal_period: is required"),
        ({"endpoints": [entry(limit={"calls": 1, "renewal_period": "dya"})]}, "did you mean day?"),
        (
            {"endpoints": [entry(limit={"calls": 1, "renewal_period": "day", "key": "ip"})]},
            "limit.key: must be",
        ),
        ({"endpoints": [entry(scope="custom:x:premium")]}, "must be the last part alone"),
        ({"endpoints": [entry(scope="chat:create")]}, "must be a name of your own"),
        ({"endpoints": [entry(scope="Premium")]}, "must be made of lower-case letters"),
        ({"endpoints": [entry(hidden="yes")]}, "hidden: must be true or false"),
        (
            {"endpoints": [entry(timeouts={"idle_s": 0})]},
            "timeouts.idle_s: must be a number of seconds above 0",
        ),
        ({"endpoints": [entry(timeouts={"idle": 5})]}, "timeouts.idle: is not a key of this place"),
        ({"endpoints": [entry(destinations=[])]}, "belongs to a traffic split"),
        (
            {
                "endpoints": [
                    entry(
                        endpoint_type="llm/v1/embeddings",
                        model={"provider": "groq", "name": "x", "config": {"api_key": KEY}},
                    )
                ]
            },
            "groq cannot serve llm/v1/embeddings; it serves llm/v1/chat",
        ),
    ],
)
def test_what_is_wrong_is_said_with_its_path(document: Any, message: str) -> None:
    assert message in problem_of(document, EMPTY="  ")


def test_all_that_is_wrong_is_said_at_once() -> None:
    lines = problem_of({"endpoints": [entry(name="a b", scope="X"), entry(limit=7)]}).splitlines()
    assert [line.partition(":")[0] for line in lines] == [
        "endpoints[0].name",
        "endpoints[0].scope",
        "endpoints[1].limit",
    ]


def test_unknown_keys_are_warned_of() -> None:
    document = {"endpoints": [entry(limitt={}, model=model() | {"temperature": 1})], "tracking": 1}
    assert [warning.partition(":")[0] for warning in read(document).warnings] == [
        "endpoints[0].model.temperature",
        "endpoints[0].limitt",
        "tracking",
    ]


@pytest.mark.parametrize("form", ["inline", "variable", "braces", "env", "file", "path"])
def test_key_is_found_wherever_it_is(tmp_path: Path, form: str) -> None:
    (tmp_path / "key").write_text(f"{KEY}\n")
    value: Any = {
        "inline": KEY,
        "variable": "$MY_KEY",
        "braces": "${MY_KEY}",
        "env": {"env": "MY_KEY"},
        "file": {"file": "key"},
        "path": str(tmp_path / "key"),
    }[form]
    document = {"endpoints": [entry(model=model(openai_api_key=value))]}
    VALIDATOR.validate(document)
    config = parse(document, SCHEMAS, {"MY_KEY": KEY}, base_dir=tmp_path)
    assert config.endpoints[0].model.settings["openai_api_key"] == Secret(KEY)
    assert config.files == ((tmp_path / "key",) if form in ("file", "path") else ())


def test_secret_cannot_be_seen_by_accident() -> None:
    secret = Secret(KEY)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret:>40}",
        repr([secret]),
    ]
    config = read({"endpoints": [entry()]})
    assert all(KEY not in text for text in [*shown, repr(config), str(config)])
    with pytest.raises(TypeError, match="cannot be pickled"):
        pickle.dumps(secret)
    assert copy.deepcopy(secret) == secret
    assert secret.reveal() == KEY
    assert secret != Secret("other")


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.floats(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "name",
                    "endpoint_type",
                    "model",
                    "provider",
                    "config",
                    "limit",
                    "calls",
                    "renewal_period",
                    "scope",
                    "openai_api_key",
                    "hidden",
                    "timeouts",
                    "endpoints",
                    "routes",
                ]
            )
            | st.text(max_size=5),
            inner,
            max_size=5,
        )
    ),
    max_leaves=25,
)


@given(JUNK)
def test_no_document_brings_it_down(document: Any) -> None:
    try:
        read(document)
    except ConfigFault as fault:
        assert fault.path
        assert fault.problem


def test_errors_of_a_file_name_its_lines(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "endpoints:\n- name: chat\n  endpoint_type: llm/v1/chat\n  model:\n    provider: nope\n"
    )
    with pytest.raises(ConfigFault, match=r"endpoints\[0\]\.model\.provider: .* \(line 5\)") as caught:
        load(file, SCHEMAS, {})
    assert caught.value.files == (file,)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("endpoints: [", "is not valid YAML"),
        ("a: 1\na: 2\n", "config.yaml:2: a is there twice, first on line 1"),
        ("a: !!python/object:os.system x", "has a tag"),
        ("", "is empty"),
        ("a: \x01", "control character"),
        ("[" * 5000, "nested too deeply"),
    ],
)
def test_file_that_is_no_configuration_says_where(tmp_path: Path, text: str, part: str) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(ConfigFault, match=part):
        load(file, SCHEMAS, {})


def test_syntax_error_beside_a_key_does_not_quote_it(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"openai_api_key: \"{KEY}\nother: '{KEY}")
    with pytest.raises(ConfigFault) as caught:
        load(file, SCHEMAS, {})
    assert KEY not in str(caught.value)


def test_schema_is_a_schema_and_refuses_what_parse_refuses() -> None:
    Draft202012Validator.check_schema(json_schema(SCHEMAS))
    wrong = [
        {"endpoints": [entry(name="a b")]},
        {"endpoints": [entry(model=model(openai_api_kee="x"))]},
        {"endpoints": [entry(limit={"calls": 0, "renewal_period": "day"})]},
        {"endpoints": [entry(endpoint_type="x")]},
        {"endpoints": [entry(timeouts={"idle": 1})]},
        {},
    ]
    assert [VALIDATOR.is_valid(document) for document in wrong] == [False] * len(wrong)
    assert VALIDATOR.is_valid({"endpoints": [entry()]})


def deployed(*deployments: Any, **more: Any) -> dict[str, Any]:
    document = entry(deployments=list(deployments), **more)
    del document["model"]
    return document


def test_deployments_stand_in_the_place_of_a_model() -> None:
    first = {"name": "a", "model": model(), "weight": 2, "priority": 3, "timeouts": {"idle_s": 5}}
    config = read(
        {"endpoints": [deployed(first, {"model": model()}, order="cheapest", retries=2, aliases=["x/y"])]}
    )
    (found,) = config.endpoints
    assert [(each.name, each.weight, each.priority) for each in found.deployments] == [
        ("a", 2.0, 3),
        ("2", 1.0, 1),
    ]
    assert found.deployments[0].timeouts.idle_s == 5
    assert (found.order, found.retries, found.aliases) == ("cheapest", 2, ("x/y",))
    assert found.model is found.deployments[0].model


@pytest.mark.parametrize(
    ("endpoint", "problem"),
    [
        (entry(deployments=[]), "endpoints[0].deployments: stands beside a model"),
        (deployed(), "endpoints[0].deployments: must be a list of deployments"),
        (deployed(7), "endpoints[0].deployments[0]: must be a mapping"),
        (deployed({}), "endpoints[0].deployments[0].model: is required"),
        (deployed({"model": model(), "colour": 1}), "endpoints[0].deployments[0].colour: is not a key"),
        (
            deployed({"model": model(), "weight": -1}),
            "endpoints[0].deployments[0].weight: must be a number",
        ),
        (
            deployed({"model": model(), "priority": 0}),
            "endpoints[0].deployments[0].priority: must be a whole",
        ),
        (
            deployed({"model": model(), "name": "a"}, {"model": model(), "name": "a"}),
            "endpoints[0].deployments[1].name: must be different",
        ),
        (entry(order="random"), "endpoints[0].order: must be weighted"),
        (entry(retries=99), "endpoints[0].retries: must be a whole number"),
        (entry(fallbacks=["nope"]), "endpoints[0].fallbacks[0]: 'nope' is no other endpoint"),
        (entry(fallbacks=["chat"]), "endpoints[0].fallbacks[0]: 'chat' is no other endpoint"),
        (entry(aliases=["a b"]), "endpoints[0].aliases: must be letters"),
        (entry(aliases=7), "endpoints[0].aliases: must be a list of names"),
    ],
)
def test_what_is_wrong_with_deployments_is_named_by_its_path(endpoint: Any, problem: str) -> None:
    with pytest.raises(ConfigFault) as caught:
        read({"endpoints": [endpoint]})
    assert problem in str(caught.value)


def test_an_alias_is_nobody_else_s_name() -> None:
    other = entry(name="other", aliases=["chat"])
    with pytest.raises(ConfigFault, match="'chat' is a name of"):
        read({"endpoints": [entry(name="chat"), other]})


def split_of(*shares: Any, **more: Any) -> dict[str, Any]:
    destinations = [
        {"name": f"e{index}", "traffic_percentage": share} for index, share in enumerate(shares)
    ]
    return {"name": "s", "task_type": "llm/v1/chat", "destinations": destinations, **more}


def test_split_is_read_from_either_list() -> None:
    ends = [entry(name="e0"), entry(name="e1")]
    split = split_of(90, 10, routing_strategy="TRAFFIC_SPLIT")
    for document in ({"endpoints": ends, "routes": [split]}, {"endpoints": [split, *ends]}):
        assert not list(VALIDATOR.iter_errors(document))
        (found,) = read(document).splits
        assert (found.name, found.destinations) == ("s", (("e0", 90), ("e1", 10)))
        assert len(read(document).endpoints) == 2


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (split_of(90, 20), "routes[0].destinations: must add up to a traffic_percentage of 100"),
        (split_of(90, 10.0), "destinations[1].traffic_percentage: must be a whole number"),
        (split_of(101, -1), "destinations[0].traffic_percentage: must be a whole number"),
        (split_of(50, 25, 25), "destinations[2].name: 'e2' is no endpoint"),
        (split_of(50, 25, 25) | {"destinations": []}, "destinations: must be a list"),
        (split_of(100, task_type="llm/v1/embeddings"), "'e0' is of another type"),
        (split_of(100, routing_strategy="ROUND_ROBIN"), "routing_strategy: must be TRAFFIC_SPLIT"),
        (split_of(100, name="e0"), "routes[0].name: must be different"),
        (split_of(100, task_type="chat"), "task_type: must be"),
        (split_of(100, model={"provider": "echo"}), "belongs to a traffic split"),
        (
            split_of(50) | {"destinations": [{"name": "e0", "traffic_percentage": 50}] * 2},
            "'e0' is there twice",
        ),
    ],
)
def test_wrong_split_is_said_with_its_path(split: Any, message: str) -> None:
    document = {"endpoints": [entry(name="e0"), entry(name="e1")], "routes": [split]}
    assert message in problem_of(document)


def test_mlflow_s_ways_are_read_for_all_and_for_one() -> None:
    document = {
        "mlflow": {"answers": "legacy", "default_temperature": 0},
        "endpoints": [
            entry(),
            entry(name="other", mlflow={"answers": "openai", "model_in_body": "ignore"}),
        ],
    }
    assert not list(VALIDATOR.iter_errors(document))
    first, second = (each.mlflow for each in read(document).endpoints)
    assert (first.answers, first.takes_model, first.default_temperature) == ("legacy", False, 0.0)
    assert (second.answers, second.takes_model, second.default_temperature) == ("openai", True, 0.0)
    for wrong in ({"answers": "old"}, {"scale_temperature": 1}, {"default_temperature": 3}, {"x": 1}):
        assert f"mlflow.{next(iter(wrong))}: " in problem_of({"endpoints": [entry(mlflow=wrong)]})
