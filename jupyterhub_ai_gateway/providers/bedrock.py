"""Amazon Bedrock: Claude natively, by the Messages API, and every model by the Converse API.

Source: https://docs.aws.amazon.com/bedrock/latest/APIReference/API_Operations_Amazon_Bedrock_Runtime.html
and https://docs.aws.amazon.com/bedrock/latest/userguide/model-parameters-anthropic-claude-messages.html
(read 2026-11).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, MutableMapping
from urllib.parse import quote

import msgspec
from typing_extensions import override

from ..config import TEXT_TYPES, ModelConfig, ProviderSchema, Setting
from ..dialects.anthropic import allowed_betas
from ..dialects.codec import Manners
from ..dialects.converse_fields import Family
from ..errors import UpstreamRefused
from ..upstream.base import Client, Exchange, Target
from ..vocabulary import (
    BEDROCK_EMBED,
    CONVERSE,
    COUNT_TOKENS,
    EMBEDDINGS,
    MESSAGES,
    Operation,
    Timeouts,
    utcnow,
)
from . import aws
from .base import Headers, Provider
from .bedrock_exchange import Counted, Unframed, is_framed
from .bedrock_refusals import bedrock_refusal
from .bedrock_vectors import Embedder, embed
from .openai import USER_AGENT
from .sigv4 import Scope, sign

VERSION = "bedrock-2023-05-31"
_BETAS = "anthropic-beta"
_EFFORT = "effort-2025-11-24"
"""What Claude Opus 4.5 takes an effort by; later models take one without."""
_ARN = re.compile(r"arn:aws[a-z-]*:bedrock:([a-z0-9-]+):")
_GUARDRAIL = re.compile(r"[a-z0-9]*|arn:aws[a-z-]*:bedrock:[a-z0-9-]+:\d{12}:guardrail/[a-z0-9]+")
_GUARDRAIL_VERSION = re.compile(r"[1-9][0-9]{0,7}|DRAFT")
_SUFFIXES = {"cn-": "amazonaws.com.cn", "eusc-": "amazonaws.eu"}
_VERBS: Mapping[Operation, str] = {
    MESSAGES: "invoke",
    COUNT_TOKENS: "count-tokens",
    CONVERSE: "converse",
    BEDROCK_EMBED: "invoke",
}
_STREAMS: Mapping[Operation, str] = {
    MESSAGES: "invoke-with-response-stream",
    CONVERSE: "converse-stream",
}
_SIGNED = ("content-type",)

_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_betas = msgspec.json.Decoder(list[str]).decode
_encode = msgspec.json.Encoder().encode


def _check(settings: Mapping[str, object]) -> Iterable[tuple[str, str]]:
    config = settings["aws_config"]
    if isinstance(config, Mapping):
        yield from aws.check(config)
    guardrail, version = (str(settings[name] or "") for name in ("guardrail_id", "guardrail_version"))
    if not _GUARDRAIL.fullmatch(guardrail):
        yield "guardrail_id", "must be the id of a guardrail, small letters and digits, or its ARN"
    if not _GUARDRAIL_VERSION.fullmatch(version):
        yield "guardrail_version", "must be a number in quotes, or DRAFT"


class Bedrock(Provider):
    """Models in a region of AWS, named by their id, by an inference profile, or by an ARN."""

    schema = ProviderSchema(
        name="bedrock",
        settings=(
            aws.AWS_CONFIG,
            Setting(
                "api_base", "url", help="The address, such as a VPC endpoint's; the region's by default."
            ),
            Setting(
                "api",
                "choice",
                choices=("converse", "messages"),
                help="What the model is asked by; messages for Claude by default, converse for all others.",
            ),
            Setting("guardrail_id", "text", help="A guardrail of Bedrock's that looks at each request."),
            Setting("guardrail_version", "text", default="DRAFT", help="Its version."),
        ),
        endpoint_types=frozenset(TEXT_TYPES),
        check=_check,
    )

    def __init__(self, model: ModelConfig) -> None:
        super().__init__(model)
        self._model = model.name or ""
        config: Mapping[str, object] = self.settings["aws_config"]
        arn = _ARN.match(self._model)
        region = config["aws_region"] or (arn and arn[1]) or aws.region_of_chain()
        self._region = str(region or "")
        self._source = aws.source_of(config, self._region)
        family = Family.named(self._model)
        usual = "messages" if family.is_claude else "converse"
        self._is_native = (self.settings["api"] or usual) == "messages"
        self._counted_model = family.model if family.is_claude else self._model  # without the profile

    translates = (MESSAGES, CONVERSE, BEDROCK_EMBED)

    @override
    def speaks(self, endpoint_type: str) -> frozenset[Operation]:
        if endpoint_type == EMBEDDINGS.endpoint_type:
            return frozenset({BEDROCK_EMBED})
        return frozenset({MESSAGES, COUNT_TOKENS}) if self._is_native else frozenset({CONVERSE})

    @override
    def manners(self) -> Manners:
        return Manners(model=self._model)

    @override
    def url(self, operation: Operation) -> str:
        return self._url(operation, _VERBS[operation])

    @override
    def stream_target(self, operation: Operation) -> Target:
        url = self._url(operation, _STREAMS.get(operation, _VERBS[operation]))
        return self.reach(url, self.headers())

    def _url(self, operation: Operation, verb: str) -> str:
        if not self._region:
            raise ValueError("it needs aws_config.aws_region, which AWS's own configuration lacks as well")
        suffix = next(
            (end for start, end in _SUFFIXES.items() if self._region.startswith(start)), "amazonaws.com"
        )
        base = self.settings["api_base"] or f"https://bedrock-runtime.{self._region}.{suffix}"
        model = self._counted_model if operation is COUNT_TOKENS else self._model
        return f"{base}/model/{quote(model, safe='')}/{verb}"

    @override
    def headers(self) -> Headers:
        own = [
            ("User-Agent", USER_AGENT),
            ("Accept", "application/json"),
            ("Accept-Encoding", "identity"),
            ("Content-Type", "application/json"),
        ]
        if self._is_native and self.settings["guardrail_id"] is not None:
            own.append(("X-Amzn-Bedrock-GuardrailIdentifier", self.settings["guardrail_id"]))
            own.append(("X-Amzn-Bedrock-GuardrailVersion", self.settings["guardrail_version"]))
        return own

    @override
    def amend(self, operation: Operation, fields: MutableMapping[str, msgspec.Raw]) -> None:
        if operation is CONVERSE and self.settings["guardrail_id"] is not None:
            guardrail = {
                "guardrailIdentifier": self.settings["guardrail_id"],
                "guardrailVersion": self.settings["guardrail_version"],
            }
            fields["guardrailConfig"] = msgspec.Raw(_encode(guardrail))

    @override
    async def send(
        self, client: Client, target: Target, body: bytes, timeouts: Timeouts, headers: Headers = ()
    ) -> Exchange:
        fields = _fields(body)
        if "texts" in fields:

            async def ask(each: bytes) -> Exchange:
                return await client.send(target, await self._authorize(target, each), each, timeouts)

            return await embed(Embedder.of(self._model), body, ask)
        for name in ("model", "stream"):  # the path says both
            fields.pop(name, None)
        verb = target.path.rpartition("/")[2]
        if not verb.startswith("converse"):
            self._make_native(fields, headers)
        if verb == "count-tokens":
            fields.setdefault("max_tokens", msgspec.Raw(b"1"))  # which is not counted, but must be there
            body = _encode({"input": {"invokeModel": {"body": _encode(fields)}}})
        else:
            body = _encode(fields)
        authorization = await self._authorize(target, body)
        exchange = await client.send(target, authorization, body, timeouts)
        if is_framed(exchange.headers):
            return Unframed(exchange)
        return Counted(exchange) if verb == "count-tokens" and exchange.status == 200 else exchange

    @override
    def refusal(self, status: int, headers: Mapping[bytes, bytes], body: bytes) -> UpstreamRefused:
        fault, is_expired = bedrock_refusal(self.name, status, headers, body, self._source.secrets())
        if is_expired:
            self._source.expire()
        return fault

    @override
    def secrets(self) -> tuple[str, ...]:
        return self._source.secrets()

    async def _authorize(self, target: Target, body: bytes) -> Headers:
        credentials = await self._source.current()
        if isinstance(credentials, aws.Bearer):
            return [("Authorization", f"Bearer {credentials.token}")]
        signed = [("Host", target.origin.authority)]
        signed += [(name, value) for name, value in target.headers if name.lower() in _SIGNED]
        scope = Scope(self._region, "bedrock")
        return sign(target.method, target.path, signed, body, keys=credentials, scope=scope, now=utcnow())

    def _make_native(self, fields: dict[str, msgspec.Raw], headers: Headers) -> None:
        """Say in the body what Anthropic has in headers."""
        said = [value for name, value in headers if name == _BETAS]
        if "anthropic_beta" in fields:
            try:
                said += _betas(fields.pop("anthropic_beta"))
            except (msgspec.DecodeError, UnicodeDecodeError):
                said += []  # no list of words
        if b'"effort"' in bytes(fields.get("output_config", b"")) and "opus-4-5" in self._model:
            said.append(_EFFORT)
        kept, _ = allowed_betas(",".join(dict.fromkeys(said)))
        if kept:
            fields["anthropic_beta"] = msgspec.Raw(_encode(kept))
        fields["anthropic_version"] = msgspec.Raw(_encode(VERSION))
