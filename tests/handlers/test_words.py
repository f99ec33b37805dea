"""Numbers and names as the pages write them, and that notebooks and errors write money the same."""

from __future__ import annotations

import json
import shutil
import subprocess
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from jupyterhub_ai_gateway.handlers.pages import STATIC
from jupyterhub_ai_gateway.vocabulary import money_text

NODE = shutil.which("node")
ASK = """
globalThis.document = { querySelector: () => null };
globalThis.location = { origin: "https://hub.example.org" };
const words = await import(%s);
const [name, values, more] = JSON.parse(process.argv[1]);
console.log(JSON.stringify(values.map((value) => words[name](value, ...more))));
"""

MONEY = [
    (None, "unknown"),
    (0, "$0.00"),
    (1, "$1.00"),
    (1234.5, "$1,234.50"),
    (0.576, "$0.58"),
    (0.6372, "$0.64"),
    (0.01, "$0.01"),
    (0.0099499, "$0.0099"),
    (0.00995, "$0.01"),
    (0.0252, "$0.03"),
    (0.001, "$0.0010"),
    (0.0036, "$0.0036"),
    (0.000167, "$0.00017"),
    (0.0000099, "$0.0000099"),
    (0.000001, "$0.0000010"),
    (0.000000001, "<$0.000001"),
    (-5, "-$5.00"),
    (-0.0005, "-$0.00050"),
    (999999.999, "$1,000,000.00"),
]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return what a function of the pages makes of values."""
    if NODE is None:
        pytest.skip("needs node")
    copy = Path(shutil.copy(STATIC / "parts.js", tmp_path_factory.mktemp("js") / "parts.mjs"))

    def ask(name: str, values: list[Any], *more: Any) -> list[Any]:
        code = ASK % json.dumps(copy.as_uri())
        given = json.dumps([name, values, more])
        told: list[Any] = json.loads(
            subprocess.check_output([NODE or "", "--input-type=module", "-e", code, given], text=True)
        )
        return told

    return ask


def test_money_is_cents_and_below_a_cent_two_digits(written: Any) -> None:
    texts = [text for _, text in MONEY]
    assert written("money", [value for value, _ in MONEY]) == texts
    amounts = [None if value is None else Decimal(str(value)) for value, _ in MONEY]
    assert [money_text(value) for value in amounts] == texts


def test_a_price_is_written_whole(written: Any) -> None:
    assert written("price", [0.15, 0.075, 15, 1000, 0.00125]) == [
        "$0.15",
        "$0.075",
        "$15.00",
        "$1,000.00",
        "$0.00125",
    ]


def test_durations_have_a_unit(written: Any) -> None:
    values = [None, 0, 999.4, 1000, 59_949, 61_000]
    assert written("duration", values) == ["unknown", "0 ms", "999 ms", "1.0 s", "59.9 s", "1 min 1 s"]


def test_users_are_named_without_their_kind(written: Any) -> None:
    assert written("who", ["user:alice", "service:bot", "group:ai"]) == ["alice", "service:bot", "group:ai"]


LIMIT = {"rule": "budget", "resource": "cost_usd", "counts": "each user", "limit": 2, "is_budget": True}
FREE = {"input_per_mtok": 0, "output_per_mtok": 0, "per_request": 0, "per_second": 0}
MODELS = [
    {"id": "chat", "rules": ["budget"], "instead": ["mini", "local"], "price": None},
    {"id": "mini", "rules": ["budget"], "instead": [], "price": {**FREE, "per_request": 1}},
    {"id": "local", "rules": ["budget"], "instead": [], "price": FREE},
]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"used": 1.59}, []),
        ({"used": None}, []),
        ({"used": 2, "is_budget": False}, []),
        ({"used": 2, "shadow": True}, []),
        (
            {"used": 1.7},
            [
                "85 % of your budget “budget” (each user) are used. "
                "When it is used up, requests to chat go to local."
            ],
        ),
        ({"used": 2}, ["Your budget “budget” (each user) is used up: requests to chat go to local."]),
        (
            {"used": 9, "resource": "tokens"},  # the one of our own is under it as well
            ["Your budget “budget” (each user) is used up."],
        ),
    ],
)
def test_a_budget_that_runs_out_is_said_in_words(
    change: dict[str, Any], words: list[str], written: Any
) -> None:
    limit = {**LIMIT, "shadow": False, "resets_at": None, **change}
    assert written("budgetWords", [[limit]], MODELS) == [words]


def test_a_budget_says_when_it_resets(written: Any) -> None:
    limit = {**LIMIT, "used": 2, "shadow": False, "resets_at": "2999-01-01T00:00:00Z"}
    ((words,),) = written("budgetWords", [[limit]], [])
    assert "is used up until it resets in " in words
    assert " days, on Jan 1, 2999" in words
