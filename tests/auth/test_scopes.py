"""Policy as tables: what a model's scopes allow."""

from __future__ import annotations

import pytest
from fakes.hub import ACCESS, user_model

from jupyterhub_ai_gateway.auth import ScopeRules, access_scopes_from_env
from jupyterhub_ai_gateway.errors import ConfigFault, Forbidden
from jupyterhub_ai_gateway.vocabulary import OPERATIONS

RULES = ScopeRules("ai-gateway", frozenset({ACCESS}))
CHAT = "custom:ai-gateway:chat:create"
FULL = "custom:ai-gateway:full-access"
EVERYTHING = set(OPERATIONS)


@pytest.mark.parametrize(
    ("scopes", "groups", "is_everywhere"),
    [
        (["custom:ai-gateway:group-usage!group=physics"], {"physics"}, False),
        # Being in the group makes the filter no wider
        (["custom:ai-gateway:group-usage!group=ai"], {"ai"}, False),
        (["custom:ai-gateway:group-usage!user=alice"], set(), False),
        (["custom:ai-gateway:group-usage!service=ai-gateway"], set(), False),
        (["custom:other:group-usage!group=physics"], set(), False),
        (["custom:ai-gateway:group-usage"], set(), True),
        (["custom:ai-gateway:admin!group=physics"], set(), False),
    ],
)
def test_a_filter_of_group_usage_says_which_groups(
    scopes: list[str], groups: set[str], is_everywhere: bool
) -> None:
    caller = RULES.caller(user_model("alice", ACCESS, *scopes, groups=("ai",)))
    assert caller.watched_groups == groups
    assert (RULES.scope("group-usage") in caller.scopes) is is_everywhere


@pytest.mark.parametrize(
    ("scopes", "operations"),
    [
        ([ACCESS, CHAT], {"chat:create"}),
        (["access:services", CHAT], {"chat:create"}),
        ([ACCESS, FULL], EVERYTHING),
        ([ACCESS, FULL + "!user=alice"], EVERYTHING),
        ([ACCESS, CHAT + "!user=alice"], {"chat:create"}),
        ([ACCESS, CHAT + "!group=ai"], {"chat:create"}),
        ([ACCESS, CHAT + "!service=ai-gateway"], {"chat:create"}),
        ([ACCESS, CHAT + "!user=bob"], set()),
        ([ACCESS, CHAT + "!group=staff"], set()),
        ([ACCESS, CHAT + "!service=other"], set()),
        ([ACCESS, CHAT + "!service=alice"], set()),
        ([ACCESS, CHAT + "!server=alice/"], set()),
        ([ACCESS, CHAT + "!user"], set()),
        ([ACCESS, CHAT + "!"], set()),
        ([ACCESS, "custom:other:full-access"], set()),
        ([ACCESS, "custom:ai-gateway:*"], set()),
        ([ACCESS, "custom:ai-gateway:admin"], set()),
        ([ACCESS, "custom:ai-gateway:premium"], set()),
        ([ACCESS], set()),
        ([CHAT], set()),
        ([FULL], set()),
        (["access:services!service=other", FULL], set()),
        (["access:services!user=alice", FULL], set()),
        (["access:servers", FULL], set()),
        ([], set()),
    ],
)
def test_operations_of_a_user(scopes: list[str], operations: set[str]) -> None:
    caller = RULES.caller(user_model("alice", *scopes, groups=("ai",)))
    assert caller.operations == operations


def test_full_access_holds_neither_admin_nor_a_gate() -> None:
    caller = RULES.caller(user_model("alice", ACCESS, FULL))
    for scope in ("custom:ai-gateway:admin", "custom:ai-gateway:premium"):
        with pytest.raises(Forbidden):
            RULES.require_scope(caller, scope)


def test_service_is_a_caller_without_groups() -> None:
    model = {"kind": "service", "name": "bot", "admin": False, "scopes": [ACCESS, CHAT + "!service=bot"]}
    caller = RULES.caller(model)
    assert (caller.key, caller.groups, caller.operations) == ("service:bot", (), {"chat:create"})
    assert caller.server_name is None


def test_service_is_not_the_user_of_its_name() -> None:
    model = {"kind": "service", "name": "alice", "scopes": [ACCESS, CHAT + "!user=alice"]}
    assert not RULES.caller(model).operations


def test_access_to_itself_is_not_access_to_us() -> None:
    model = {"kind": "service", "name": "bot", "scopes": ["access:services!service=bot", FULL]}
    assert not RULES.caller(model).has_access


def test_scopes_of_the_hub_keep_their_filters() -> None:
    caller = RULES.caller(
        user_model("alice", "read:metrics", "read:users!user=alice", CHAT + "!user=alice")
    )
    assert caller.scopes == {"read:metrics", "read:users!user=alice", CHAT}


@pytest.mark.parametrize(
    ("scopes", "server_name"),
    [
        (["access:servers!server=alice/"], ""),
        (["access:servers!server=alice/gpu"], "gpu"),
        (["access:servers!server=bob/gpu"], None),
        (["access:servers!user=alice", "access:servers!server=alice/gpu"], None),
        (["access:servers", "access:servers!server=alice/gpu"], None),
        (["access:servers!server=alice/a", "access:servers!server=alice/b"], None),
        ([ACCESS], None),
    ],
)
def test_server_name_only_of_a_servers_token(scopes: list[str], server_name: str | None) -> None:
    assert RULES.caller(user_model("alice", *scopes)).server_name == server_name


@pytest.mark.parametrize(
    "model",
    [
        {},
        {"name": "", "kind": "user"},
        {"name": None, "kind": "user"},
        {"name": "alice", "kind": "token"},
        {"name": "alice", "scopes": [["nested"]]},
        {"name": "alice", "scopes": 3},
    ],
)
def test_strange_models_are_refused(model: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, AttributeError)):
        RULES.caller(model)


def test_refusal_names_the_missing_scope() -> None:
    caller = RULES.caller(user_model("alice", ACCESS))
    with pytest.raises(Forbidden, match=CHAT) as raised:
        RULES.require(caller, "chat:create")
    assert f"{ACCESS} {CHAT}" in raised.value.public  # ready to copy to the token page
    assert (raised.value.status, raised.value.slug) == (403, "insufficient_scope")


def test_refusal_names_access_first() -> None:
    caller = RULES.caller(user_model("alice", CHAT))
    with pytest.raises(Forbidden, match=f"needs the scope {ACCESS}"):
        RULES.require(caller, "chat:create")


def test_refusal_of_a_servers_token_says_restart() -> None:
    caller = RULES.caller(user_model("alice", ACCESS, "access:servers!server=alice/"))
    with pytest.raises(Forbidden, match="stop the server and start it again"):
        RULES.require(caller, "chat:create")


def test_gate_needs_access_too() -> None:
    premium = "custom:ai-gateway:premium"
    RULES.require_scope(RULES.caller(user_model("alice", ACCESS, premium)), premium)
    outside = RULES.caller(user_model("alice", premium, "read:metrics"))
    with pytest.raises(Forbidden):
        RULES.require_scope(outside, premium)
    RULES.require_scope(outside, "read:metrics", access=False)


@pytest.mark.parametrize(
    ("environ", "scopes"),
    [
        ({}, {ACCESS}),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": ""}, {ACCESS}),
        (
            {"JUPYTERHUB_OAUTH_ACCESS_SCOPES": f'["access:services", "{ACCESS}"]'},
            {"access:services", ACCESS},
        ),
        ({"JUPYTERHUB_OAUTH_SCOPES": f'["{ACCESS}"]'}, {ACCESS}),
    ],
)
def test_access_scopes_are_read(environ: dict[str, str], scopes: set[str]) -> None:
    assert access_scopes_from_env(environ, "ai-gateway") == scopes


@pytest.mark.parametrize(
    ("environ", "name"),
    [
        ({}, ""),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": "[]"}, "ai-gateway"),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": "{}"}, "ai-gateway"),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": "access:services"}, "ai-gateway"),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": '["self"]'}, "ai-gateway"),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": f'["{ACCESS}", "read:users"]'}, "ai-gateway"),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": f'["{ACCESS}"]'}, "other"),
        ({"JUPYTERHUB_OAUTH_ACCESS_SCOPES": "[{}]"}, "ai-gateway"),
    ],
)
def test_service_without_its_access_scope_refuses_to_start(environ: dict[str, str], name: str) -> None:
    with pytest.raises(ConfigFault):
        access_scopes_from_env(environ, name)


def test_rules_without_access_scopes_cannot_be() -> None:
    with pytest.raises(ConfigFault):
        ScopeRules("ai-gateway", frozenset())
