"""The operator's will about the fields of a request, as a table."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jupyterhub_ai_gateway.config.parameters import ParametersConfig, read_parameters
from jupyterhub_ai_gateway.config.report import Report
from jupyterhub_ai_gateway.dialects.parameters import Parameters, Told
from jupyterhub_ai_gateway.errors import RequestFault

PATH = "endpoints[0].parameters"
SEARCH, RUN, OWN = (
    {"type": "web_search_preview"},
    {"type": "code_interpreter"},
    {"type": "function", "name": "f"},
)


def read(document: Any) -> ParametersConfig:
    report = Report()
    found = read_parameters(document, PATH, report)
    assert report.errors == []
    assert found is not None
    return found


def applied(policy: Any, **given_fields: Any) -> tuple[dict[str, Any], Told]:
    fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in given_fields.items()}
    before = dict(fields)
    found, told = Parameters(read(policy)).apply(fields)
    assert fields == before  # another attempt, or another look, finds what was asked
    return json.loads(msgspec.json.encode(found)), told


TABLE: list[tuple[dict[str, Any], dict[str, Any], dict[str, Any], str, str]] = [
    # the policy, what is asked, what goes on, what is told as dropped and as clamped
    ({"drop": ["a"]}, {"a": 1, "b": 2}, {"b": 2}, "a", ""),
    ({"drop": ["a"]}, {"b": 2}, {"b": 2}, "", ""),
    ({"drop": ["a"]}, {"a": None, "b": 2}, {"b": 2}, "", ""),
    ({"drop": ["store"]}, {"store": True}, {}, "store", ""),
    ({"error": ["a"]}, {"a": None, "b": 2}, {"b": 2}, "", ""),
    ({"rename": {"a": "b"}}, {"a": 1}, {"b": 1}, "", ""),
    ({"rename": {"a": "b"}}, {"a": 1, "b": 2}, {"b": 2}, "a", ""),
    ({"rename": {"a": "b", "c": "d"}}, {"c": [1]}, {"d": [1]}, "", ""),
    ({"default": {"a": 1}}, {}, {"a": 1}, "", ""),
    ({"default": {"a": 1}}, {"a": 2}, {"a": 2}, "", ""),
    ({"default": {"a": 1}}, {"a": None}, {"a": 1}, "", ""),
    ({"default": {"a": False}}, {"a": True}, {"a": True}, "", ""),
    ({"default": {"a": {"b": [1, "x"]}}}, {}, {"a": {"b": [1, "x"]}}, "", ""),
    ({"clamp": {"a": 10}}, {"a": 11}, {"a": 10}, "", "a"),
    ({"clamp": {"a": 10}}, {"a": 10}, {"a": 10}, "", ""),
    ({"clamp": {"a": 10}}, {"a": 10.5}, {"a": 10}, "", "a"),
    ({"clamp": {"a": 10}}, {"a": -5}, {"a": -5}, "", ""),
    ({"clamp": {"a": 10}}, {}, {}, "", ""),
    ({"clamp": {"a": 10}}, {"a": None}, {}, "", ""),
    ({"clamp": {"a": 10}}, {"a": "many"}, {"a": "many"}, "", ""),
    ({"clamp": {"a": 10}}, {"a": True}, {"a": True}, "", ""),
    ({"clamp": {"a": 10}}, {"a": 10**30}, {"a": 10}, "", "a"),
    ({"clamp": {"a": {"min": 1}}}, {"a": 0}, {"a": 1}, "", "a"),
    ({"clamp": {"a": {"min": 0.5, "max": 1.5}}}, {"a": 2}, {"a": 1.5}, "", "a"),
    ({"clamp": {"a": {"min": 0.5, "max": 1.5}}}, {"a": 0}, {"a": 0.5}, "", "a"),
    # In their order: dropped by the old name, then renamed, filled in, bounded
    (
        {"drop": ["a"], "rename": {"a": "b"}, "default": {"b": 99}, "clamp": {"b": 10}},
        {"a": 1},
        {"b": 10},
        "a",
        "b",
    ),
    ({"rename": {"a": "b"}, "clamp": {"b": 10}}, {"a": 11}, {"b": 10}, "", "b"),
    # Tools by their kind
    (
        {"drop": ["tools.web_search_preview"]},
        {"tools": [SEARCH, OWN]},
        {"tools": [OWN]},
        "tools.web_search_preview",
        "",
    ),
    (
        {"drop": ["tools.web_search*"]},
        {"tools": [OWN, SEARCH]},
        {"tools": [OWN]},
        "tools.web_search_preview",
        "",
    ),
    ({"drop": ["tools.web_search"]}, {"tools": [SEARCH]}, {"tools": [SEARCH]}, "", ""),
    (
        {"drop": ["tools.web_search*", "tools.code_interpreter"]},
        {"tools": [SEARCH, RUN], "tool_choice": "auto", "parallel_tool_calls": True, "b": 1},
        {"b": 1},
        "tools.code_interpreter, tools.web_search_preview, tool_choice, parallel_tool_calls",
        "",
    ),
    (
        {"drop": ["tools.code_interpreter"]},
        {"tools": [RUN, OWN], "tool_choice": RUN},
        {"tools": [OWN]},
        "tools.code_interpreter, tool_choice",
        "",
    ),
    (
        {"drop": ["tools.code_interpreter"]},
        {"tools": [RUN, OWN], "tool_choice": "required"},
        {"tools": [OWN], "tool_choice": "required"},
        "tools.code_interpreter",
        "",
    ),
    ({"drop": ["tools.x"]}, {"tools": "x"}, {"tools": "x"}, "", ""),
    ({"drop": ["tools.x"]}, {"tools": [1, {"type": 2}]}, {"tools": [1, {"type": 2}]}, "", ""),
    ({"drop": ["tools"]}, {"tools": [OWN]}, {}, "tools", ""),
]


@pytest.mark.parametrize(("policy", "asked", "goes_on", "dropped", "clamped"), TABLE, ids=range(len(TABLE)))
def test_table(
    policy: dict[str, Any], asked: dict[str, Any], goes_on: dict[str, Any], dropped: str, clamped: str
) -> None:
    found, told = applied(policy, **asked)
    assert found == goes_on
    assert (", ".join(told.dropped), ", ".join(told.clamped)) == (dropped, clamped)


@pytest.mark.parametrize("value", [1, False, "", [], {}])
def test_what_is_not_allowed_is_refused_by_name(value: Any) -> None:
    with pytest.raises(RequestFault) as caught:
        applied({"error": ["n"]}, n=value)
    assert (caught.value.param, caught.value.slug, caught.value.status) == ("n", "parameter_refused", 400)


JSON_VALUES = st.recursive(
    st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.dictionaries(
        st.text(st.characters(codec="ascii"), min_size=1, max_size=5).filter(lambda name: name != "self"),
        JSON_VALUES,
        max_size=5,
    )
)
def test_all_else_stays_as_it_was(fields: dict[str, Any]) -> None:
    policy = {"drop": ["dropped_"], "clamp": {"clamped_": 1}, "rename": {"old_name": "new_name"}}
    given_fields = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    found, told = Parameters(read(policy)).apply(given_fields)
    assert found == given_fields
    assert told == Told()


WRONG: list[tuple[Any, str, str]] = [
    ([], "", "must be a mapping"),
    ({}, "", "says nothing"),
    ({"drop": []}, "", "says nothing"),
    ({"dorp": ["a"]}, ".dorp", "did you mean drop?"),
    ({"drop": "a"}, ".drop", "must be a list of names"),
    ({"drop": ["a", 1]}, ".drop[1]", "must be the name of a field"),
    ({"drop": ["a b"]}, ".drop[0]", "must be the name of a field"),
    ({"drop": ["tools."]}, ".drop[0]", "must name a kind of tool"),
    ({"drop": ["model"]}, ".drop[0]", "for the gateway itself to set"),
    ({"error": ["stream"]}, ".error[0]", "for the gateway itself to set"),
    ({"error": ["tools.x"]}, ".error[0]", "must be the name of a field"),
    ({"drop": ["a"], "error": ["a"]}, ".error", "is in drop too"),
    ({"rename": ["a"]}, ".rename", "must be a mapping"),
    ({"rename": {"a": 1}}, ".rename.a", "must be the name of a field"),
    ({"rename": {"a": "a"}}, ".rename.a", "is its name already"),
    ({"rename": {"a": "store"}}, ".rename.a", "reaches into the provider's account"),
    ({"default": {"store": True}}, ".default.store", "reaches into the provider's account"),
    ({"default": {"a": None}}, ".default.a", "a value that JSON has"),
    ({"default": {"a": float("inf")}}, ".default.a", "a value that JSON has"),
    ({"default": {"a": {1: 2}}}, ".default.a", "a value that JSON has"),
    ({"clamp": {"a": "x"}}, ".clamp.a", "must be a number"),
    ({"clamp": {"a": True}}, ".clamp.a", "must be a number"),
    ({"clamp": {"a": float("nan")}}, ".clamp.a", "must be a number"),
    ({"clamp": {"a": {}}}, ".clamp.a", "must have a min or a max"),
    ({"clamp": {"a": {"max": "x"}}}, ".clamp.a.max", "must be a number"),
    ({"clamp": {"a": {"min": 2, "max": 1}}}, ".clamp.a", "above its max"),
    ({"clamp": {"a": {"mix": 2, "max": 1}}}, ".clamp.a.mix", "is not a key"),
]


@pytest.mark.parametrize(("document", "path", "problem"), WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_is_named_with_its_path(document: Any, path: str, problem: str) -> None:
    report = Report()
    read_parameters(document, PATH, report)
    assert any(where == PATH + path and problem in text for where, text in report.errors), report.errors
