"""Where AWS's credentials come from: the configuration, a role, AWS's own chain; against a fake STS."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from expected import ExpectedLog
from fakes.upstream import FakeUpstream, Gate, Reply, Request

from jupyterhub_ai_gateway.config import parse
from jupyterhub_ai_gateway.errors import ConfigFault, UpstreamFault
from jupyterhub_ai_gateway.providers import aws
from jupyterhub_ai_gateway.providers.aws import Bearer, Chain, Given, Role, check, source_of
from jupyterhub_ai_gateway.providers.registry import Providers
from jupyterhub_ai_gateway.providers.sigv4 import Keys

REGION = "eu-central-1"
ROLE = "arn:aws:iam::123456789012:role/ai/gateway"
SECRET = "a-secret-access-key-0123456789"
START = datetime(2026, 11, 21, 12, 0, tzinfo=timezone.utc)
PROVIDERS = Providers.installed()


class Clock:
    """The time of day, as the test has it."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now

    def after(self, **more: float) -> None:
        self.now += timedelta(**more)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(aws, "utcnow", made)
    return made


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Let AWS's own chain find nothing that this machine has."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    for name in ("AWS_PROFILE", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_ACCESS_KEY_ID"):
        monkeypatch.delenv(name, raising=False)


def keys_of(number: int) -> Keys:
    return Keys(f"ASIA{number}", f"{SECRET}-{number}", f"session-token-{number}")


class Sts:
    """AWS's service of roles: gives out numbered keys, good for as long as it was asked."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.given = 0
        self.asked: list[str] = []
        self.gate: Gate | None = None

    def __call__(self, request: Request) -> Reply:
        self.asked.append(request.body.decode())
        assert "AWS4-HMAC-SHA256 Credential=AKIABASE/" in (request.header("authorization") or "")
        self.given += 1
        keys = keys_of(self.given)
        ends = (self.clock() + timedelta(seconds=900)).strftime("%Y-%m-%dT%H:%M:%SZ")
        body = (
            '<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult>'
            f"<Credentials><AccessKeyId>{keys.access_key_id}</AccessKeyId>"
            f"<SecretAccessKey>{keys.secret_access_key}</SecretAccessKey>"
            f"<SessionToken>{keys.session_token}</SessionToken><Expiration>{ends}</Expiration></Credentials>"
            "</AssumeRoleResult></AssumeRoleResponse>"
        )
        before = () if self.gate is None else (self.gate,)
        return Reply(200, [("Content-Type", "text/xml")], body.encode(), before=before)


DENIED = Reply(
    403,
    [("Content-Type", "text/xml")],
    b"<ErrorResponse><Error><Type>Sender</Type><Code>AccessDenied</Code><Message>"
    b"alice's prompt</Message></Error></ErrorResponse>",
)


@pytest.fixture
def up(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeUpstream]:
    with FakeUpstream(is_strict=False) as up:
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", up.url)
        yield up


def role(session_s: int = 900) -> Chain:
    return Chain(REGION, Role(ROLE, session_s), Keys("AKIABASE", SECRET))


async def test_role_is_assumed_once_for_many_and_renewed_in_time(up: FakeUpstream, clock: Clock) -> None:
    sts = Sts(clock)
    up.always(sts)
    source = role()
    assert await asyncio.gather(*(source.current() for _ in range(5))) == [keys_of(1)] * 5
    assert "DurationSeconds=900" in sts.asked[0]
    assert "RoleSessionName=jupyterhub-ai-gateway" in sts.asked[0]
    clock.after(seconds=590)
    assert await source.current() == keys_of(1)
    assert sts.given == 1
    sts.gate = Gate()
    clock.after(seconds=20)
    assert [await source.current() for _ in range(3)] == [keys_of(1)] * 3  # nobody waits for the new ones
    assert source._renewal is not None
    sts.gate.set()
    await source._renewal
    assert await source.current() == keys_of(2)
    assert sts.given == 2


async def test_no_log_line_holds_a_key(
    up: FakeUpstream, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    up.always(Sts(clock))
    logging.getLogger("botocore").setLevel(logging.NOTSET)
    with caplog.at_level(logging.DEBUG):
        keys = await role().current()
    assert isinstance(keys, Keys)
    told = "".join(record.getMessage() for record in caplog.records)
    assert told  # somebody does log at DEBUG
    for secret in (SECRET, keys.secret_access_key, keys.session_token):
        assert str(secret) not in told


async def test_role_that_has_ended_is_waited_for(up: FakeUpstream, clock: Clock) -> None:
    up.always(Sts(clock))
    source = role()
    await source.current()
    clock.after(seconds=901)
    assert await source.current() == keys_of(2)


async def test_old_keys_are_used_while_new_ones_are_not_to_be_had(
    up: FakeUpstream, clock: Clock, expected_log: ExpectedLog
) -> None:
    up.always(Sts(clock))
    source = role()
    await source.current()
    up.script(DENIED)
    clock.after(seconds=700)
    assert await source.current() == keys_of(1)
    assert source._renewal is not None
    await source._renewal
    lines = expected_log.take("cannot be renewed")
    assert "AWS said AccessDenied" in "".join(lines)
    assert "alice" not in "".join(lines)
    assert await source.current() == keys_of(1)
    assert len(up.requests) == 2  # not again at once
    clock.after(seconds=6)
    await source.current()
    assert source._renewal is not None
    await source._renewal
    assert await source.current() == keys_of(2)


async def test_refused_role_is_a_fault_that_names_aws_s_word_alone(up: FakeUpstream, clock: Clock) -> None:
    up.always(DENIED)
    source = role()
    for _ in range(3):
        with pytest.raises(UpstreamFault) as caught:
            await source.current()
        assert caught.value.slug == "upstream_auth_error"
        assert caught.value.detail == "no AWS credentials: AWS said AccessDenied"
    assert len(up.requests) == 1
    clock.after(seconds=6)
    up.always(Sts(clock))
    assert await source.current() == keys_of(1)


async def test_unreachable_aws_is_a_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://127.0.0.1:9")
    with pytest.raises(UpstreamFault) as caught:
        await role().current()
    assert caught.value.detail == "no AWS credentials: EndpointConnectionError"


async def test_caller_who_leaves_does_not_stop_what_others_wait_for(up: FakeUpstream, clock: Clock) -> None:
    sts = Sts(clock)
    sts.gate = Gate()
    up.always(sts)
    source = role()
    first, second = (asyncio.ensure_future(source.current()) for _ in range(2))
    await up.taken()
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)
    sts.gate.set()
    assert await second == keys_of(1)
    assert sts.given == 1


async def test_refused_keys_are_forgotten(up: FakeUpstream, clock: Clock) -> None:
    up.always(Sts(clock))
    source = role()
    await source.current()
    source.expire()
    assert await source.current() == keys_of(1)  # so new that others would be refused as well
    clock.after(seconds=61)
    source.expire()
    assert await source.current() == keys_of(2)
    assert set(source.secrets()) == {"ASIA2", f"{SECRET}-2", "session-token-2", SECRET, "AKIABASE"}


async def test_chain_finds_what_the_environment_has(monkeypatch: pytest.MonkeyPatch, clock: Clock) -> None:
    source = Chain(REGION)
    with pytest.raises(UpstreamFault, match="no credentials") as caught:
        await source.current()
    assert "AWS's own chain has none" in str(caught.value.detail)
    clock.after(seconds=6)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    assert await source.current() == Keys("AKIAENV", SECRET)
    clock.after(seconds=61)
    monkeypatch.setenv("AWS_BEARER_TOKEN_BEDROCK", "bedrock-api-key-abc")
    await source.current()
    assert source._renewal is not None
    await source._renewal
    assert await source.current() == Bearer("bedrock-api-key-abc")


async def test_chain_s_expiring_keys_are_followed(
    monkeypatch: pytest.MonkeyPatch, clock: Clock, up: FakeUpstream
) -> None:
    """The address that Amazon's containers have for the credentials of their role."""
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", f"{up.url}/credentials")
    given = iter(range(1, 9))

    def answer(request: Request) -> Reply:
        keys = keys_of(next(given))
        ends = datetime.now(timezone.utc) + timedelta(seconds=300)  # botocore renews these at once
        document = {
            "AccessKeyId": keys.access_key_id,
            "SecretAccessKey": keys.secret_access_key,
            "Token": keys.session_token,
            "Expiration": ends.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        return Reply.json(document)

    up.always(answer)
    source = Chain(REGION)
    first = await source.current()
    clock.after(seconds=301)
    second = await source.current()
    assert isinstance(first, Keys)
    assert isinstance(second, Keys)
    assert int(second.access_key_id[4:]) > int(first.access_key_id[4:])


@pytest.mark.parametrize(
    "config",
    [
        {"aws_access_key_id": "AKIA", "aws_secret_access_key": SECRET, "aws_session_token": SECRET},
        {"aws_bearer_token": SECRET},
        {"aws_access_key_id": "AKIA", "aws_secret_access_key": SECRET, "aws_role_arn": ROLE},
    ],
)
def test_secrets_do_not_show_themselves(config: dict[str, str]) -> None:
    model = {"provider": "bedrock", "name": "m", "config": {"aws_config": {"aws_region": REGION, **config}}}
    document = {"endpoints": [{"name": "x", "endpoint_type": "llm/v1/chat", "model": model}]}
    read = parse(document, PROVIDERS.schemas, {})
    provider = PROVIDERS.make(read.endpoints[0].model)
    source = vars(provider)["_source"]
    assert SECRET in provider.secrets()
    assert SECRET not in repr(read) + repr(vars(provider)) + repr(vars(source))


async def test_given_credentials_are_used_as_they_are() -> None:
    keys = source_of(parsed({"aws_access_key_id": "AKIA", "aws_secret_access_key": SECRET}), REGION)
    assert isinstance(keys, Given)
    assert await keys.current() == Keys("AKIA", SECRET)
    bearer = source_of(parsed({"aws_bearer_token": "bearer-token"}), REGION)
    assert await bearer.current() == Bearer("bearer-token")
    assert bearer.secrets() == ("bearer-token",)
    for shown in (repr(await keys.current()), repr(await bearer.current())):
        assert SECRET not in shown
        assert "bearer-token" not in shown


# The configuration


def parsed(config: dict[str, Any]) -> Any:
    model = {"provider": "amazon-bedrock", "name": "anthropic.claude", "config": {"aws_config": config}}
    document = {"endpoints": [{"name": "x", "endpoint_type": "llm/v1/chat", "model": model}]}
    return parse(document, PROVIDERS.schemas, {}).endpoints[0].model.settings["aws_config"]


KEYS = {"aws_access_key_id": "AKIA", "aws_secret_access_key": SECRET}
PATH = r"^endpoints\[0\]\.model\.config\.aws_config"


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"aws_access_key_id": "AKIA"}, r"\.aws_secret_access_key: is required with aws_access_key_id"),
        ({"aws_secret_access_key": SECRET}, r"\.aws_access_key_id: is required with aws_secret"),
        ({"aws_session_token": "x"}, r"\.aws_session_token: belongs to"),
        (KEYS | {"aws_bearer_token": "x"}, r"\.aws_bearer_token: stands in the place"),
        (KEYS | {"aws_region": "Frankfurt"}, r"\.aws_region: is no region"),
        ({"aws_role_arn": "gateway"}, r"\.aws_role_arn: is no role"),
        (KEYS | {"session_length_seconds": 899}, r"\.session_length_seconds: must be between 900"),
        (KEYS | {"session_length_seconds": "900"}, r"\.session_length_seconds: must be a whole number"),
        (KEYS | {"aws_regoin": "x"}, r"\.aws_regoin: is not a key of this place"),
        ("AKIA", ": must be a mapping"),
    ],
)
def test_wrong_setting_is_named(config: Any, problem: str) -> None:
    with pytest.raises(ConfigFault, match=PATH + problem) as caught:
        parsed(config)
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("config", [{}, {"aws_role_arn": ROLE}])
def test_missing_package_is_named(config: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "find_spec", lambda name: None)
    with pytest.raises(ConfigFault, match=r"jupyterhub-ai-gateway\[bedrock\]"):
        parsed(config)
    parsed(KEYS)


def test_every_form_of_mlflow_is_taken() -> None:
    for config in (
        {"aws_region": REGION},
        {"aws_region": REGION, "aws_role_arn": ROLE, "session_length_seconds": 1800},
        {"aws_region": REGION, **KEYS, "aws_session_token": "t"},
        {"aws_region": REGION, "aws_bearer_token": "t"},
    ):
        found = parsed(config)
        assert not list(check(found))
        assert found["session_length_seconds"] in (900, 1800)
    assert SECRET not in repr(parsed(KEYS))
    assert set(parsed({})) == {each.name for each in aws.AWS_CONFIG.settings}
