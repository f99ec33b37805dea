"""AWS's credentials: those of the configuration, a role's, or those that AWS's own chain finds.

Roles and the chain need botocore, an extra, which is imported when it is first asked, in a thread: it
reads files and asks AWS, and the event loop must not wait for that.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from importlib.util import find_spec
from typing import Any, Protocol, cast

from typing_extensions import override

from ..config import Secret, Setting
from ..errors import UpstreamFault
from ..vocabulary import utcnow
from .sigv4 import Keys

log = logging.getLogger(__name__)

EXTRA = "pip install 'jupyterhub-ai-gateway[bedrock]'"
SESSION_NAME = "jupyterhub-ai-gateway"
_SHORTEST_SESSION_S, _LONGEST_SESSION_S = 900, 43200
"""What AWS allows.

Source: https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html (read 2026-11).
"""
_LOOK_AGAIN = timedelta(seconds=60)
_FOUND_LAST = timedelta(seconds=300)
"""Credentials of the chain are looked for again after the one, and used until the other: botocore renews
what expires ten minutes before, so that what it hands out is good for longer than that."""
_LONGEST_MARGIN = timedelta(seconds=300)
_PAUSE = timedelta(seconds=5)
"""How long a failure is believed before AWS is asked again."""
_ROLE = re.compile(r"arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+", re.ASCII)
_REGION = re.compile(r"[a-z]{2,}(?:-[a-z]+)+-\d+")

AWS_CONFIG = Setting(
    "aws_config",
    "group",
    help="How AWS is asked. Without keys, token or role: as AWS's own chain finds it.",
    settings=(
        Setting("aws_region", "text", help="The region, such as us-east-1."),
        Setting("aws_access_key_id", "secret", help="An access key, together with"),
        Setting("aws_secret_access_key", "secret", help="its secret, and,"),
        Setting("aws_session_token", "secret", help="where the key is temporary, its token."),
        Setting(
            "aws_bearer_token", "secret", help="An API key of Amazon Bedrock, in place of an access key."
        ),
        Setting("aws_role_arn", "text", help="A role to assume; with the access key, if there is one."),
        Setting(
            "session_length_seconds", "whole", default=900, help="How long to assume it for each time."
        ),
    ),
)
"""MLflow's settings, which all have to do with who asks."""


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that is sent as it is; nothing is signed."""

    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Role:
    """A role to assume, for so many seconds each time."""

    arn: str
    session_s: int


Credentials = Keys | Bearer


def check(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    """Say what is wrong with `aws_config`; nothing that is yielded holds a value."""
    has = {name for name in config if config[name] is not None}
    pair = {"aws_access_key_id", "aws_secret_access_key"}
    if len(has & pair) == 1:
        missing, given = (pair - has).pop(), (has & pair).pop()
        yield f"aws_config.{missing}", f"is required with {given}"
    if "aws_session_token" in has and not has & pair:
        yield "aws_config.aws_session_token", "belongs to an aws_access_key_id, which is missing"
    if "aws_bearer_token" in has and has & {*pair, "aws_role_arn"}:
        yield "aws_config.aws_bearer_token", "stands in the place of an access key and a role; keep one"
    yield from _check_texts(config)
    if ("aws_role_arn" in has or not has & {*pair, "aws_bearer_token"}) and find_spec("botocore") is None:
        what = "aws_role_arn" if "aws_role_arn" in has else "AWS's own chain of credentials"
        yield "aws_config", f"{what} needs the package botocore: {EXTRA}"


def _check_texts(config: Mapping[str, Any]) -> Iterable[tuple[str, str]]:
    region, role = config["aws_region"], config["aws_role_arn"]
    if region is not None and not _REGION.fullmatch(region):
        yield "aws_config.aws_region", "is no region of AWS, such as us-east-1"
    if role is not None and not _ROLE.fullmatch(role):
        yield "aws_config.aws_role_arn", "is no role, such as arn:aws:iam::123456789012:role/NAME"
    if not _SHORTEST_SESSION_S <= config["session_length_seconds"] <= _LONGEST_SESSION_S:
        yield (
            "aws_config.session_length_seconds",
            f"must be between {_SHORTEST_SESSION_S} and {_LONGEST_SESSION_S}",
        )


class Source(Protocol):
    """Where credentials come from."""

    async def current(self) -> Credentials:
        """Return what is good now; `UpstreamFault` when there is nothing."""

    def expire(self) -> None:
        """Forget what was refused, and look again for the next request."""

    def secrets(self) -> tuple[str, ...]:
        """Return what must never be shown, as far as it is known."""


def source_of(config: Mapping[str, Any], region: str) -> Source:
    """Return where the credentials of an `aws_config` come from."""
    keys = _keys(config)
    bearer = cast("Secret | None", config["aws_bearer_token"])
    if bearer is not None:
        return Given(Bearer(bearer.reveal()))
    if config["aws_role_arn"] is not None:
        return Chain(region, Role(config["aws_role_arn"], config["session_length_seconds"]), keys)
    return Chain(region) if keys is None else Given(keys)


def _keys(config: Mapping[str, Any]) -> Keys | None:
    if config["aws_access_key_id"] is None:
        return None
    token = config["aws_session_token"]
    return Keys(
        config["aws_access_key_id"].reveal(),
        config["aws_secret_access_key"].reveal(),
        None if token is None else token.reveal(),
    )


def region_of_chain() -> str | None:
    """Return the region of AWS's own configuration; None without one, and without botocore."""
    if find_spec("botocore") is None:
        return None
    from botocore.session import Session

    region = Session().get_config_variable("region")
    return region if isinstance(region, str) and _REGION.fullmatch(region) else None


class Given(Source):
    """Credentials of the configuration."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    @override
    async def current(self) -> Credentials:
        return self._credentials

    @override
    def expire(self) -> None:
        """Nothing else is known."""

    @override
    def secrets(self) -> tuple[str, ...]:
        return secrets_of(self._credentials)


def secrets_of(credentials: Credentials) -> tuple[str, ...]:
    """Return the texts within that must never be shown."""
    if isinstance(credentials, Bearer):
        return (credentials.token,)
    own = (credentials.secret_access_key, credentials.session_token, credentials.access_key_id)
    return tuple(text for text in own if text is not None)


@dataclass(frozen=True, slots=True)
class _Found:
    """Credentials that are used until `ends_at`; others are looked for from `renew_at` on."""

    credentials: Credentials
    found_at: datetime
    renew_at: datetime
    ends_at: datetime


class Chain(Source):
    """What AWS's own chain finds, or a role that is assumed with that, or with `keys`.

    It is renewed before it ends, beside the requests that go on with the old ones; when that fails it is
    tried again until they end.
    """

    def __init__(self, region: str, role: Role | None = None, keys: Keys | None = None) -> None:
        self._region = region
        self._role = role
        self._keys = keys
        self._session: Any = None
        self._sts: Any = None
        self._found: _Found | None = None
        self._failure: tuple[datetime, str] | None = None  # until when it is believed, and what it was
        self._renewal: asyncio.Task[None] | None = None

    @override
    async def current(self) -> Credentials:
        now = utcnow()
        if self._found is None or now >= self._found.ends_at:
            if self._failure is None or now >= self._failure[0]:
                await asyncio.shield(self._renewing())
            if self._found is None or now >= self._found.ends_at:
                raise _no_credentials(self._failure[1] if self._failure else "none were found")
        elif now >= self._found.renew_at and (self._failure is None or now >= self._failure[0]):
            self._renewing()
        return self._found.credentials

    @override
    def expire(self) -> None:
        """Forget them, unless they are new: then others would be refused as well."""
        if self._found is not None and utcnow() - self._found.found_at >= _LOOK_AGAIN:
            self._found = None

    @override
    def secrets(self) -> tuple[str, ...]:
        given = () if self._keys is None else secrets_of(self._keys)
        return given if self._found is None else (*given, *secrets_of(self._found.credentials))

    def _renewing(self) -> asyncio.Task[None]:
        if self._renewal is None:
            self._renewal = asyncio.ensure_future(self._renew())
        return self._renewal

    async def _renew(self) -> None:
        try:
            found = await asyncio.to_thread(self._look, utcnow())
            if isinstance(found, str):
                self._failure = (utcnow() + _PAUSE, found)
                if self._found is not None:
                    log.warning("AWS credentials cannot be renewed (%s); the old ones are used", found)
            else:
                self._found, self._failure = found, None
        finally:
            self._renewal = None

    # In a thread

    def _look(self, now: datetime) -> _Found | str:
        """Return credentials, or why there are none, in words that hold nothing of them."""
        from botocore.exceptions import BotoCoreError, ClientError

        try:
            if self._session is None:
                self._session = self._started()
            return self._chained(now) if self._role is None else self._assumed(self._role, now)
        except ClientError as error:
            return f"AWS said {error.response.get('Error', {}).get('Code', 'no')}"
        except (BotoCoreError, OSError) as error:
            return type(error).__name__

    def _started(self) -> Any:
        from botocore.session import Session

        logging.getLogger("botocore").setLevel(logging.INFO)  # DEBUG has whole answers, keys included
        session = Session()
        if self._keys is not None:
            own = self._keys
            session.set_credentials(own.access_key_id, own.secret_access_key, own.session_token)
        return session

    def _chained(self, now: datetime) -> _Found | str:
        from botocore.utils import get_token_from_environment

        token = get_token_from_environment("bedrock")
        if token:
            return _Found(Bearer(token), now, now + _LOOK_AGAIN, now + _FOUND_LAST)
        found = self._session.get_credentials()
        if found is None:
            return "AWS's own chain has none: no environment variables, no profile, no role"
        frozen = found.get_frozen_credentials()
        keys = Keys(frozen.access_key, frozen.secret_key, frozen.token)
        return _Found(keys, now, now + _LOOK_AGAIN, now + _FOUND_LAST)

    def _assumed(self, role: Role, now: datetime) -> _Found:
        if self._sts is None:
            from botocore.config import Config

            patience = Config(connect_timeout=10, read_timeout=10, retries={"total_max_attempts": 2})
            self._sts = self._session.create_client("sts", region_name=self._region, config=patience)
        answer = self._sts.assume_role(
            RoleArn=role.arn, RoleSessionName=SESSION_NAME, DurationSeconds=role.session_s
        )["Credentials"]
        ends_at: datetime = answer["Expiration"]
        margin = min(_LONGEST_MARGIN, (ends_at - now) / 3)
        keys = Keys(answer["AccessKeyId"], answer["SecretAccessKey"], answer["SessionToken"])
        return _Found(keys, now, ends_at - margin, ends_at)


def _no_credentials(reason: str) -> UpstreamFault:
    return UpstreamFault(
        "The gateway has no credentials for the model's provider. The operator has to look at them.",
        slug="upstream_auth_error",
        detail=f"no AWS credentials: {reason}",
        headers=[("x-should-retry", "false")],
    )
