"""The pieces of JSON and Python that the pages show: what they are said to be."""

from __future__ import annotations

import ast
import json
from datetime import date, timedelta
from pathlib import Path
from typing import Any

from served import FULL, served

from jupyterhub_ai_gateway.config import group_policies

from .blocks import BLOCKS, page
from .hub_blocks import execute


def the_json(path: str, part: str = "") -> Any:
    (found,) = [each.text for each in page(path).all("json") if part in each.text]
    return json.loads(found)


async def test_an_override_is_what_the_api_takes(tmp_path: Path) -> None:
    document = the_json("explanation/limits.md")
    document["ends"] = (date.today() + timedelta(days=30)).isoformat()
    rule = {"name": "budget", "resource": "cost_usd", "limit": 5, "window": "month"}
    ledger = {"url": f"sqlite:///{tmp_path}/ledger.sqlite"}
    async with served(config={"policies": [rule], "ledger": ledger}) as running:
        staff = running.knows(
            "t-staff", "access:services!service=ai-gateway", FULL, "custom:ai-gateway:admin"
        )
        made = await running.ask("POST", "api/overrides", document, token=staff)
        assert made.status == 201, made.body
        listed = (await running.ask("GET", "api/overrides", token=staff)).json
        assert [each["who"] for each in listed["overrides"]] == ["user:alice"]


def test_policies_in_a_group_s_properties_are_read() -> None:
    document = the_json("howto/courses-and-budgets.md")
    found, wrong = group_policies("physics-101", document)
    assert wrong is None
    assert [(each.resource, each.count) for each in found] == [("cost_usd", "group")]


async def test_errors_have_the_shape_that_the_page_shows() -> None:
    async with served() as running:
        listing = running.knows(
            "t-lists", "access:services!service=ai-gateway", "custom:ai-gateway:models:list"
        )
        body: dict[str, Any] = {"model": "nothing", "messages": [{"role": "user", "content": "Hi"}]}
        asked = [
            ('"param": "model"', await running.ask("POST", "v1/chat/completions", body)),
            ("not_found_error", await running.ask("POST", "v1/messages", {**body, "max_tokens": 5})),
            (
                "access_denied",
                await running.ask("POST", "resource_server/v1/chat/completions", body, token=listing),
            ),
        ]
        for part, answer in asked:
            assert like(the_json("reference/errors.md", part), answer.json), answer.body


def like(shown: Any, found: Any) -> bool:
    """Compare, where `…` stands for any text."""
    if isinstance(shown, dict):
        return set(shown) == set(found) and all(like(shown[key], found[key]) for key in shown)
    return bool(shown == found or (shown == "…" and isinstance(found, str)))


def test_the_role_for_some_takes_the_place_of_that_for_all(tmp_path: Path) -> None:
    """As the page says: in place of number 3."""
    by_hand = page("howto/configure-by-hand.md")
    text = by_hand.block("python", "import sys").replace("/srv/jupyterhub/config.yaml", "config.yaml")
    role = by_hand.block("python", '{"name": "ai-gateway-user"')
    place = '    {"name": "user", "scopes": ["self", ACCESS, FULL_ACCESS]},\n'
    assert place in text
    c = execute(text.replace(place, f"    {role.strip()},\n"), "config.yaml")
    roles = {each["name"]: each for each in c.JupyterHub.load_roles}
    assert roles["ai-gateway-user"]["groups"] == ["ai"]
    assert "user" not in roles


def test_every_block_of_python_is_python() -> None:
    for block in BLOCKS.values():
        if block.language == "python":
            ast.parse(block.text)
