"""From a name to the addresses to which a connection is made, checked where an operator wants that.

What is returned here is what is connected to: nobody resolves the name a second time, so it cannot be
another address that was checked.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from ipaddress import ip_address

from ..config import DnsConfig
from .addresses import why_not_public

log = logging.getLogger(__name__)

AddressInfo = tuple[int, int, int, str, tuple[object, ...]]
"""What `socket.getaddrinfo` returns of an address."""
Lookup = Callable[[str, int, int], Sequence[AddressInfo]]
"""Resolves a name and a port for a family, in a thread; raises what `socket.getaddrinfo` raises."""

NEXT_ADDRESS_S = 0.25
"""How long after an address the next one is tried as well.

Source: RFC 8305 section 5 (read 2026-11)."""
MOST_NAMES = 1024
_THREADS = 8
_FAMILIES = {"any": socket.AF_UNSPEC, "ipv4": socket.AF_INET, "ipv6": socket.AF_INET6}


class NotPublicError(OSError):
    """All addresses of a name are private, or special in another way, and only public ones may be asked."""


@dataclass(slots=True)
class _Known:
    """What a name has resolved to, and until when that is used."""

    found: Sequence[AddressInfo]
    until: float


class Names:
    """Resolves names, and remembers them for a while. However many want a name, it is asked for once.

    The system's resolver works in threads of its own: while it does not answer, nothing else waits for
    them. `lookup` and `why_not` stand in for it, and for the idea of what is public.
    """

    def __init__(
        self,
        config: DnsConfig | None = None,
        lookup: Lookup | None = None,
        why_not: Callable[[str], str | None] = why_not_public,
    ) -> None:
        self.config = config or DnsConfig()
        self._lookup = lookup or _lookup
        self._why_not = why_not
        self._known: dict[tuple[str, int], _Known] = {}
        self._asking: dict[tuple[str, int], asyncio.Task[Sequence[AddressInfo]]] = {}
        self._threads: ThreadPoolExecutor | None = None

    def use(self, config: DnsConfig) -> None:
        """Resolve as this says from now on."""
        if config != self.config:
            self.config = config
            self._known.clear()

    async def addresses(self, host: str, port: int, *, public_only: bool) -> Sequence[AddressInfo]:
        """Return the addresses of a host, the best first.

        OSError when there is none, `NotPublicError` when there is none that may be used.
        """
        found = _literal(host, port) or await self._resolved(host, port)
        return self._public(host, found) if public_only else found

    def _public(self, host: str, found: Sequence[AddressInfo]) -> Sequence[AddressInfo]:
        kept, what = [], "without an address"
        for each in found:
            address = str(each[4][0])
            why = self._why_not(address)
            if why is None:
                kept.append(each)
            else:
                what = f"at {address}, which is {why}"
        if not kept:
            raise NotPublicError(f"{host} is {what}, and its addresses have to be public")
        return kept

    async def _resolved(self, host: str, port: int) -> Sequence[AddressInfo]:
        key, now = (host, port), asyncio.get_running_loop().time()
        known = self._known.get(key)
        if known is not None and now < known.until:
            return known.found
        asking = self._asking.get(key)
        if asking is None:
            asking = self._asking[key] = asyncio.ensure_future(self._ask(key))
            asking.add_done_callback(lambda task: self._asked(key, task))
        return await asyncio.shield(asking)

    def _asked(self, key: tuple[str, int], task: asyncio.Task[Sequence[AddressInfo]]) -> None:
        self._asking.pop(key, None)
        if not task.cancelled():
            task.exception()  # whoever still waits gets it, and perhaps nobody does

    async def _ask(self, key: tuple[str, int]) -> Sequence[AddressInfo]:
        loop, config = asyncio.get_running_loop(), self.config
        if self._threads is None:
            self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="names")
        try:
            found = await loop.run_in_executor(
                self._threads, self._lookup, *key, int(_FAMILIES[config.family])
            )
        except socket.gaierror as error:
            known = self._known.get(key)
            if error.errno != socket.EAI_AGAIN or known is None:
                self._known.pop(key, None)
                raise
            log.info("The name %s cannot be resolved anew for now; its last addresses are used", key[0])
            found = known.found
        if not found:
            raise socket.gaierror(socket.EAI_NONAME, "the name has no address")
        self._known.pop(key, None)
        while len(self._known) >= MOST_NAMES:
            self._known.pop(next(iter(self._known)))
        self._known[key] = _Known(found, loop.time() + config.ttl_s)
        return found

    def forget(self, host: str, port: int) -> None:
        """Ask anew for a name at whose addresses nobody answered."""
        self._known.pop((host, port), None)

    def keep_only(self, hosts: Collection[tuple[str, int]]) -> None:
        """Forget all other names."""
        for key in [key for key in self._known if key not in hosts]:
            del self._known[key]

    def close(self) -> None:
        """Ask for no name any more."""
        for task in list(self._asking.values()):
            task.cancel()
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _lookup(host: str, port: int, family: int) -> Sequence[AddressInfo]:
    found: Sequence[AddressInfo] = socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM)
    return found


def _literal(host: str, port: int) -> Sequence[AddressInfo]:
    """Return an address that stands where a name would; nothing for a name.

    Other forms of numbers, such as 127.1, are names here: the system makes of them what it likes, which is
    what is checked then.
    """
    try:
        found = ip_address(host)
    except ValueError:
        return ()
    if found.version == 4:
        return ((socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (host, port)),)
    address, _, scope = host.partition("%")
    if scope:
        return ()  # the system knows the number of the interface
    return ((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (address, port, 0, 0)),)
