"""Real conversations as bytes, from the packages of `sources.txt`, which publish them among their tests.

Read in place, out of the packages' archives: nothing of theirs is in this tree. README.md says what each
holds, and how to add one.
"""

from __future__ import annotations

import base64
import gzip
import json
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timezone
from email.utils import parsedate_to_datetime
from functools import cache, cached_property
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml
from botocore.eventstream import EventStreamBuffer
from fakes.upstream import BYTE_BY_BYTE, random_cuts
from served import unchunked

from jupyterhub_ai_gateway.vocabulary import (
    CHAT,
    COHERE_CHAT,
    COMPLETIONS,
    CONVERSE,
    EMBEDDINGS,
    GENERATE_CONTENT,
    IMAGES,
    MESSAGES,
    RERANK,
    RESPONSES,
    SERVING,
    Operation,
)

HERE = Path(__file__).parent
SOURCES = HERE / "sources.txt"
FOLDER = HERE.parents[1] / ".venv" / "recordings"
"""Where `make .venv/recordings/.ready`, and so `make test`, puts the packages."""

OWN = HERE / "own"
"""What was recorded here, of servers that run on any machine."""
CUTS, CUTS_OF_A_LONG_ONE = 20, 5
LONG_BYTES = 100_000
LONGEST_BY_BYTES = 8192
EVENT_STREAM = "application/vnd.amazon.eventstream"
_PINNED = re.compile(r"^([a-z0-9-]+)==([a-z0-9.]+)", re.MULTILINE)
_KIND = re.compile(r"\.(?:type|(?:finish|stop)_?[rR]eason|object|status|role|code)$")
_GZIP = b"\x1f\x8b"
_HEADLESS = ("openinference-instrumentation-google-genai", "openinference-instrumentation-bedrock")
"""Whose recordings keep none of the answer's headers. In all others one without a date was made by hand."""
_PLAYED = ("localhost:5002",)
"""A server that plays the vendor."""
_PATHS: Mapping[str, Operation] = {
    r"/chat/completions$": CHAT,
    r"/completions$": COMPLETIONS,
    r"(?:v1|deployments/[^/]+)/embeddings$": EMBEDDINGS,
    r"/images/generations$": IMAGES,
    r"/v1/messages$": MESSAGES,
    r"/responses(?:/resp_\w+)?$": RESPONSES,
    r":(?:streamG|g)enerateContent$": GENERATE_CONTENT,
    r"/converse(?:-stream)?$": CONVERSE,
    r"anthropic\.claude[^/]*/invoke(?:-with-response-stream)?$": MESSAGES,
    r"^/invocations$": SERVING,
    r"/v2/chat$": COHERE_CHAT,
    r"/v[12]/rerank$": RERANK,
}
"""What is spoken at an address, whichever host it is."""


class MissingError(Exception):
    """The packages are not there."""


@dataclass(frozen=True)
class Recording:
    """One request and its answer. `headers` are the answer's, `body` is what came, without compression."""

    package: str
    name: str
    host: str
    path: str
    request: bytes = field(repr=False)
    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)

    def __str__(self) -> str:
        return f"{self.package}:{self.name}"

    @property
    def is_real(self) -> bool:
        """Say whether a server sent it; some cassettes were written by hand, or by a player of parts."""
        return self.host not in _PLAYED and ("date" in self.headers or self.package in _HEADLESS)

    @cached_property
    def asked(self) -> dict[str, Any]:
        """Return the request's fields; none where it had no body of JSON."""
        try:
            found = json.loads(self.request or b"{}")
        except ValueError:
            return {}
        return found if isinstance(found, dict) else {}

    @property
    def is_stream(self) -> bool:
        return self.body.startswith((b"event:", b"data:", b":")) or self.is_framed

    @property
    def is_framed(self) -> bool:
        """Say whether it is one of AWS's event streams; some cassettes keep no headers."""
        return self.headers.get("content-type") == EVENT_STREAM or self.body[:2] == b"\0\0"

    @property
    def operation(self) -> Operation | None:
        """Return what is spoken; None for what the gateway has no name for."""
        for pattern, operation in _PATHS.items():
            if re.search(pattern, self.path):
                is_older = (
                    operation is MESSAGES and "messages" not in self.asked
                )  # text completions of 2023
                return None if is_older else operation
        return self._unaddressed if not self.host else None

    @property
    def _unaddressed(self) -> Operation | None:
        """Return the same for a package that has blotted out its addresses."""
        if self.package == "langchain-anthropic":
            return MESSAGES
        if "encoding_format" in self.asked:
            return EMBEDDINGS
        return RESPONSES if "input" in self.asked else CHAT if "messages" in self.asked else None

    @property
    def sdk(self) -> str:
        """Return which SDK reads it, where that is not the usual one of the format."""
        return "mistral" if self.host == "api.mistral.ai" else ""

    @property
    def chunks(self) -> list[bytes]:
        """Return what is within the messages of one of AWS's event streams, by AWS's own decoder."""
        buffer = EventStreamBuffer()
        buffer.add_data(self.body)
        payloads = [each.payload for each in buffer]
        if self.operation is CONVERSE:
            return payloads
        return [base64.b64decode(json.loads(payload)["bytes"]) for payload in payloads]

    @property
    def documents(self) -> list[Any]:
        """Return what the answer holds as JSON: the events of a stream, or the one document."""
        if self.is_framed:
            return [json.loads(chunk) for chunk in self.chunks]
        if not self.is_stream:
            return [json.loads(self.body or b"null")]
        lines = [line[5:] for line in self.body.splitlines() if line.startswith(b"data:")]
        return [json.loads(line) for line in lines if line.strip() != b"[DONE]"]

    @cached_property
    def shape(self) -> Any:
        """Return what two recordings share that have nothing to show but their words."""
        paths = frozenset(path for each in self.documents for path in _paths(each, ""))
        return (self.host, str(self.operation), self.is_stream, self.status, paths)

    @property
    def when(self) -> datetime | None:
        """Return when it was made: by the server's header, else by what the answer says."""
        told = self.headers.get("date", "")
        if re.search(r"\d{4}", told):
            return parsedate_to_datetime(told)
        found = re.search(rb'"created(?:_at)?": ?(1[67]\d{8})', self.body)
        return None if found is None else datetime.fromtimestamp(int(found[1]), timezone.utc)


def _paths(value: Any, path: str) -> Iterator[str]:
    """Name the fields of a document, with the values of those that say what something is."""
    if isinstance(value, dict):
        for name, inner in value.items():
            is_free = name in ("arguments", "input", "args", "parameters", "properties", "schema")
            yield from [f"{path}.{name}"] if is_free else _paths(inner, f"{path}.{name}")
    elif isinstance(value, list):
        yield from {found for inner in value for found in _paths(inner, f"{path}[]")}
    else:
        is_kind = isinstance(value, str) and _KIND.search(path)
        yield f"{path}={value}" if is_kind else f"{path}:{type(value).__name__}"


def pinned() -> dict[str, str]:
    """Return the version of each package that has recordings."""
    return dict(_PINNED.findall(SOURCES.read_text()))


@cache
def recordings() -> tuple[Recording, ...]:
    """Return ours, and all that the packages hold, in their order. `MissingError` says what to do."""
    return (*own(), *(found for package in pinned() for found in _of(package)))


def own() -> Iterator[Recording]:
    """Return what `tools.record` has kept: answers with their heads, and notes beside them."""
    for path in sorted(OWN.glob("*.json")):
        note = json.loads(path.read_text(encoding="utf-8"))
        head, _, body = path.with_suffix(".http").read_bytes().partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in lines)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        yield Recording(
            "own",
            path.stem,
            note["server"],
            note["path"],
            json.dumps(note["request"]).encode(),
            int(first.split()[1]),
            headers,
            unchunked(body, headers),
        )


def archive(package: str) -> Path:
    """Return where a package is. `MissingError` says what to do."""
    path = FOLDER / f"{package.replace('-', '_')}-{pinned()[package]}.tar.gz"
    if not path.exists():
        raise MissingError(f"{path.name} is not in {FOLDER}: run `make recordings`")
    return path


def _of(package: str) -> Iterator[Recording]:
    with tarfile.open(archive(package)) as members:
        for member in members:
            name = PurePosixPath(member.name)
            if not member.isfile() or "cassettes" not in name.parts:
                continue
            content = members.extractfile(member)
            assert content is not None
            document = yaml.load(_inflated(content.read()), yaml.CSafeLoader)
            for number, (asked, answered) in enumerate(_pairs(document)):
                title = name.name.removesuffix(".gz").removesuffix(".yaml")
                found = _recording(package, f"{title}[{number}]", asked, answered)
                if found.is_real:
                    yield found


def _pairs(document: Any) -> Iterator[tuple[Any, Any]]:
    """Return requests with their answers, of vcrpy's format or the shorter one that LangChain writes."""
    if "interactions" in document:
        return ((each["request"], each["response"]) for each in document["interactions"])
    return zip(document["requests"], document["responses"], strict=True)


def _recording(package: str, name: str, asked: Any, answered: Any) -> Recording:
    where = urlsplit(asked["uri"])
    headers = {key.lower(): _first(value) for key, value in (answered.get("headers") or {}).items()}
    body = answered["body"]["string"] if "body" in answered else answered["content"]
    status = answered["status"]["code"] if "status" in answered else answered["status_code"]
    return Recording(
        package,
        name,
        where.netloc,
        unquote(where.path),
        _inflated(_bytes(asked["body"])),
        status,
        headers,
        _inflated(_bytes(body)),
    )


def _first(value: Any) -> str:
    return str(value[0] if isinstance(value, list) else value)


def _bytes(value: Any) -> bytes:
    if isinstance(value, dict):  # a request that was left as a document
        return json.dumps(value).encode()
    return value.encode() if isinstance(value, str) else bytes(value or b"")


def _inflated(content: bytes) -> bytes:
    return gzip.decompress(content) if content.startswith(_GZIP) else content


@cache
def shapes() -> tuple[Recording, ...]:
    """Return the first recording of each shape: what a host says, in which fields, of which kinds.

    Many cassettes hold the same conversation once more; what they would add is time.
    """
    kept: dict[Any, Recording] = {}
    for each in recordings():
        if each.operation is not None:
            kept.setdefault(each.shape, each)
    return tuple(kept.values())


def found(*operations: Operation, status: int = 200, is_stream: bool | None = None) -> list[Recording]:
    """Return those of some operations; none where the packages are missing, which its own test says."""
    try:
        return [
            each
            for each in shapes()
            if each.operation in operations
            and each.status == status
            and is_stream in (None, each.is_stream)
        ]
    except MissingError:
        return []


def streams() -> list[Recording]:
    """Return a stream of each address and model, whatever is spoken there."""
    try:
        every = recordings()
    except MissingError:
        return []
    kept: dict[Any, Recording] = {}
    for each in every:
        if each.is_stream and each.status == 200:
            kept.setdefault((each.host, each.path, each.asked.get("model"), "tools" in each.asked), each)
    return list(kept.values())


def requests(*operations: Operation) -> list[Recording]:
    """Return the first request of each shape to which there was an answer."""
    try:
        every = recordings()
    except MissingError:
        return []
    kept: dict[Any, Recording] = {}
    for each in every:
        is_wrapped = "/invoke" in each.path  # Bedrock's form of Anthropic's
        if each.operation in operations and each.asked and each.status == 200 and not is_wrapped:
            kept.setdefault((each.operation, frozenset(_paths(each.asked, ""))), each)
    return list(kept.values())


def refused() -> list[Recording]:
    """Return the refusals of vendors, one of each host, status and shape."""
    try:
        every = recordings()
    except MissingError:
        return []
    kept: dict[Any, Recording] = {}
    for each in every:
        if each.status >= 400 and each.package != "own" and each.body.startswith((b"{", b"[")):
            kept.setdefault((each.shape, each.headers.get("x-amzn-errortype")), each)
    return list(kept.values())


def cuts(recording: Recording) -> list[Callable[[bytes], Iterator[bytes]]]:
    """Return the ways to cut a stream: some at random, always the same, and a short one byte by byte."""
    size = len(recording.body)
    count = CUTS if size <= LONG_BYTES else CUTS_OF_A_LONG_ONE
    each = [BYTE_BY_BYTE] if size <= LONGEST_BY_BYTES else []
    return [*each, *(random_cuts(seed, max(40, size // 200)) for seed in range(count))]
