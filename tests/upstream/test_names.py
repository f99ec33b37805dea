"""From names to connections: all addresses are tried, changes are followed, private ones are refused."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from fakes.upstream import FakeUpstream

from jupyterhub_ai_gateway.config import DnsConfig
from jupyterhub_ai_gateway.errors import UpstreamTimeout, UpstreamUnreachable
from jupyterhub_ai_gateway.upstream.base import Client, Origin, StreamedBody, Target
from jupyterhub_ai_gateway.upstream.lean import LeanClient
from jupyterhub_ai_gateway.upstream.names import MOST_NAMES, Names, NotPublicError
from jupyterhub_ai_gateway.upstream.stock import StockClient
from jupyterhub_ai_gateway.vocabulary import Timeouts

TIMEOUTS = Timeouts(connect_s=5.0, first_byte_s=5.0)
HOST = "model.example"
both = pytest.mark.parametrize("kind", ["lean", "stock"])
SECOND = "127.0.0.2"
"""All of 127.0.0.0/8 is this machine."""


class Zone:
    """A resolver whose answers a test changes; it counts how often it is asked."""

    def __init__(self, *addresses: str) -> None:
        self.addresses: Sequence[str] = addresses
        self.error: socket.gaierror | None = None
        self.asked: list[tuple[str, int]] = []
        self.gate: threading.Event | None = None

    def __call__(self, host: str, port: int, family: int) -> Sequence[Any]:
        self.asked.append((host, family))
        if self.gate is not None:
            assert self.gate.wait(10)
        if self.error is not None:
            raise self.error
        return [
            (
                socket.AF_INET6 if ":" in each else socket.AF_INET,
                socket.SOCK_STREAM,
                socket.IPPROTO_TCP,
                "",
                (each, port, 0, 0) if ":" in each else (each, port),
            )
            for each in self.addresses
        ]


@asynccontextmanager
async def client(
    kind: str, zone: Zone, why_not: Callable[[str], str | None] | None = None, **config: Any
) -> AsyncIterator[Client]:
    dns = DnsConfig(**config)
    names = Names(dns, zone) if why_not is None else Names(dns, zone, why_not)
    made: Client = LeanClient(names=names) if kind == "lean" else StockClient(names=names)
    try:
        yield made
    finally:
        await made.close()


def target(up: FakeUpstream, host: str = HOST, *, public_only: bool = False) -> Target:
    return Target.from_url(f"http://{host}:{up.port}/x", (), public_only=public_only)


async def ask(client: Client, where: Target) -> bytes:
    exchange = await client.send(where, (), b"", TIMEOUTS)
    try:
        return await exchange.read(1000)
    finally:
        exchange.close()


@pytest.fixture
def up() -> Iterator[FakeUpstream]:
    with FakeUpstream(is_strict=False) as upstream:
        yield upstream


@pytest.fixture
def elsewhere(up: FakeUpstream) -> Iterator[FakeUpstream]:
    """Run another one on the same port of another address."""
    other = FakeUpstream(is_strict=False, host=SECOND)
    other.port = up.port
    with other:
        yield other


@both
async def test_all_addresses_of_a_name_are_tried(kind: str, up: FakeUpstream) -> None:
    zone = Zone("127.0.0.9", "::1", "127.0.0.1")
    async with client(kind, zone) as made:
        assert await ask(made, target(up)) == b"hello"
        assert zone.asked == [(HOST, 0)]


@both
async def test_when_no_address_answers_it_is_unreachable_and_asked_for_anew(
    kind: str, up: FakeUpstream
) -> None:
    zone = Zone("127.0.0.9", "127.0.0.8")
    async with client(kind, zone, ttl_s=3600.0) as made:
        with pytest.raises(UpstreamUnreachable):
            await ask(made, target(up))
        zone.addresses = ["127.0.0.1"]
        assert await ask(made, target(up)) == b"hello"


@both
async def test_a_resolver_that_does_not_answer_is_a_timeout_of_the_connection(
    kind: str, up: FakeUpstream
) -> None:
    zone = Zone("127.0.0.1")
    zone.gate = threading.Event()
    async with client(kind, zone) as made:
        timeouts = Timeouts(connect_s=0.2, first_byte_s=60.0)
        with pytest.raises(UpstreamTimeout, match="connecting"):
            await made.send(target(up), (), b"", timeouts)
        zone.gate.set()
        assert await ask(made, target(up)) == b"hello"
        assert len(zone.asked) == 1  # the answer that came too late serves the next request


@both
async def test_a_name_that_moves_is_followed_once_its_connections_are_old(
    kind: str, up: FakeUpstream, elsewhere: FakeUpstream
) -> None:
    zone = Zone("127.0.0.1")
    async with client(kind, zone, ttl_s=0.0, connection_age_s=0.2) as made:
        where = target(up)
        await ask(made, where)
        zone.addresses = [SECOND]
        await ask(made, where)
        assert (up.connections, elsewhere.connections) == (1, 0)
        await asyncio.sleep(0.25)
        await ask(made, where)
        assert (up.connections, elsewhere.connections) == (1, 1)
        while up.open_connections:
            await asyncio.sleep(0)


@both
async def test_without_an_age_a_connection_is_kept(kind: str, up: FakeUpstream) -> None:
    zone = Zone("127.0.0.1")
    async with client(kind, zone, ttl_s=0.0, connection_age_s=None) as made:
        for _ in range(3):
            await ask(made, target(up))
        assert (up.connections, len(zone.asked)) == (1, 1)


@both
async def test_an_old_connection_is_not_kept_after_its_answer(kind: str, up: FakeUpstream) -> None:
    async with client(kind, Zone("127.0.0.1"), connection_age_s=0.05) as made:
        exchange = await made.send(target(up), (), b"", TIMEOUTS)
        await asyncio.sleep(0.06)
        assert await exchange.read(1000) == b"hello"
        exchange.close()
        await ask(made, target(up))
        assert up.connections == 2


@pytest.mark.parametrize(
    ("family", "number"), [("any", 0), ("ipv4", socket.AF_INET), ("ipv6", socket.AF_INET6)]
)
async def test_only_addresses_of_a_family_are_asked_for(family: Any, number: int) -> None:
    zone = Zone("127.0.0.1")
    names = Names(DnsConfig(family=family), zone)
    await names.addresses(HOST, 80, public_only=False)
    assert zone.asked == [(HOST, number)]
    names.close()


async def test_however_many_want_a_name_it_is_asked_for_once_and_remembered() -> None:
    zone = Zone("127.0.0.1")
    zone.gate = threading.Event()
    names = Names(DnsConfig(ttl_s=3600.0), zone)
    asking = [asyncio.ensure_future(names.addresses(HOST, 80, public_only=False)) for _ in range(20)]
    await asyncio.sleep(0)
    asking[0].cancel()  # which is nobody else's matter
    zone.gate.set()
    found = await asyncio.gather(*asking[1:])
    assert {each[0][4] for each in found} == {("127.0.0.1", 80)}
    await names.addresses(HOST, 80, public_only=False)
    assert len(zone.asked) == 1
    names.use(DnsConfig(ttl_s=0.0))
    for _ in range(2):
        await names.addresses(HOST, 80, public_only=False)
    assert len(zone.asked) == 3
    names.close()


async def test_while_a_resolver_does_not_answer_the_last_addresses_are_used() -> None:
    zone = Zone("127.0.0.1")
    names = Names(DnsConfig(ttl_s=0.0), zone)
    first = await names.addresses(HOST, 80, public_only=False)
    zone.error = socket.gaierror(socket.EAI_AGAIN, "try again")
    assert await names.addresses(HOST, 80, public_only=False) == first
    zone.error = socket.gaierror(socket.EAI_NONAME, "no such name")
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            await names.addresses(HOST, 80, public_only=False)
    zone.error = socket.gaierror(socket.EAI_AGAIN, "try again")
    with pytest.raises(socket.gaierror):  # what is gone is not remembered
        await names.addresses(HOST, 80, public_only=False)
    names.close()


async def test_names_in_memory_are_bounded() -> None:
    names = Names(DnsConfig(ttl_s=3600.0), Zone("127.0.0.1"))
    for number in range(MOST_NAMES + 10):
        await names.addresses(f"h{number}", 80, public_only=False)
    assert len(names._known) == MOST_NAMES
    names.keep_only({("h1000", 80)})
    assert list(names._known) == [("h1000", 80)]
    names.close()


async def test_an_address_is_no_name() -> None:
    zone = Zone()
    names = Names(DnsConfig(family="ipv6"), zone)
    assert [each[4] for each in await names.addresses("127.0.0.1", 80, public_only=False)] == [
        ("127.0.0.1", 80)
    ]
    assert [each[4] for each in await names.addresses("::1", 80, public_only=False)] == [("::1", 80, 0, 0)]
    assert zone.asked == []
    names.close()


PRIVATE = ["127.0.0.1", "10.1.2.3", "169.254.169.254", "::ffff:127.0.0.1", "::1", "fd00::1"]


@both
@pytest.mark.parametrize("address", PRIVATE)
async def test_a_name_of_a_private_address_is_refused_and_nothing_is_sent(
    kind: str, address: str, up: FakeUpstream
) -> None:
    async with client(kind, Zone(address)) as made:
        for is_upload in (False, True):
            with pytest.raises(UpstreamUnreachable, match="not at a public address") as caught:
                if is_upload:
                    body = StreamedBody(_pieces(), 2)
                    await made.upload(target(up, public_only=True), (), body, TIMEOUTS)
                else:
                    await ask(made, target(up, public_only=True))
            assert address in str(caught.value.detail)
        assert up.connections == 0
        assert made.open_connections == 0


async def _pieces() -> AsyncIterator[bytes]:
    yield b"Hi"


@both
@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::1]", "2130706433", "127.1", "0x7f000001", "017700000001"]
)
async def test_an_address_in_place_of_a_name_is_checked_as_well(
    kind: str, host: str, up: FakeUpstream
) -> None:
    made: Client = LeanClient() if kind == "lean" else StockClient()
    with pytest.raises(UpstreamUnreachable, match="not at a public address"):
        await ask(made, target(up, host, public_only=True))
    assert up.connections == 0
    await made.close()


@both
async def test_a_socket_of_this_machine_is_not_public(kind: str) -> None:
    made: Client = LeanClient() if kind == "lean" else StockClient()
    where = Target(Origin("http", "localhost", 80, unix="/nowhere.sock", public_only=True), "/", ())
    with pytest.raises(UpstreamUnreachable, match="not at a public address"):
        await ask(made, where)
    await made.close()


async def test_what_a_proxy_finds_is_not_known_to_be_public(
    up: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", up.url)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    made = StockClient(uses_environment=True, names=Names(None, Zone("8.8.8.8")))
    with pytest.raises(UpstreamUnreachable, match="not at a public address"):
        await ask(made, target(up, public_only=True))
    assert up.connections == 0
    await made.close()


@both
async def test_the_address_that_was_checked_is_the_one_that_is_connected_to(
    kind: str, up: FakeUpstream, elsewhere: FakeUpstream
) -> None:
    """A name that is public when it is looked at and private a moment later gets nobody anywhere."""

    class Rebinding(Zone):
        def __call__(self, host: str, port: int, family: int) -> Sequence[Any]:
            self.addresses = ["127.0.0.1"] if len(self.asked) % 2 else [SECOND]
            return super().__call__(host, port, family)

    def why_not(address: str) -> str | None:
        return None if address == SECOND else "private"

    zone = Rebinding()
    async with client(kind, zone, why_not, ttl_s=0.0, connection_age_s=None) as made:
        where = target(up, public_only=True)
        assert await ask(made, where) == b"hello"
        assert len(zone.asked) == 1  # nobody resolves it once more
        elsewhere.drop_connections()
        with pytest.raises(UpstreamUnreachable, match="not at a public address"):
            await ask(made, where)
        assert up.connections == 0


@both
async def test_of_mixed_addresses_only_the_public_ones_are_tried(
    kind: str, up: FakeUpstream, elsewhere: FakeUpstream
) -> None:
    zone = Zone("127.0.0.1", SECOND)
    async with client(kind, zone, lambda address: None if address == SECOND else "private") as made:
        assert await ask(made, target(up, public_only=True)) == b"hello"
        assert (up.connections, elsewhere.connections) == (0, 1)


async def test_why_not_public_names_the_host_and_the_address() -> None:
    names = Names(None, Zone("10.0.0.7"))
    with pytest.raises(NotPublicError, match=r"model.example is at 10.0.0.7, which is private"):
        await names.addresses(HOST, 80, public_only=True)
    names.close()
