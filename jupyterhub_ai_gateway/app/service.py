"""One running gateway: joins the rooms, listens, takes new configurations, and ends in peace."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from tornado.httpserver import HTTPServer as TornadoServer
from tornado.httputil import HTTPServerConnectionDelegate
from tornado.netutil import bind_sockets

from .._version import __version__
from ..auth import GatewayHubOAuth, TokenResolver, cookie_secret_from
from ..auth.directory import Directory
from ..config import FileWatch, GatewayConfig
from ..errors import ConfigFault
from ..gateway import Gateway, Rooms
from ..handlers.acceptor import BACKLOG
from ..handlers.connection import ConnectionLimits, HTTPServer
from ..handlers.federated import FirstLane
from ..handlers.lane import Lane
from ..handlers.pages import Site
from ..handlers.routes import HotPaths, admin_application, application
from ..handlers.tasks import RequestIds, Tasks
from ..metrics import ConfigurationState, Metrics
from ..providers.registry import Providers
from ..router import Catalogue
from ..router.catalogue import build
from ..router.health import Healths
from ..router.probes import Hook, Prober, load_hook, probed
from ..scheduling import Pools, PoolStore, SharedPools
from ..upstream import make_client
from ..vocabulary import Caller, utcnow
from .batches import Batches
from .books import Books
from .keys import KeyKeeper
from .options import Options
from .peers import Peers

log = logging.getLogger(__name__)

_CUT_WAIT_S = 1.0


class Service:
    """A gateway from `start` to `stop`. `port` is the real one once it listens.

    `providers` are read from the installed packages; tests and embedders may bring their own.
    """

    def __init__(self, options: Options, providers: Providers | None = None) -> None:
        self.options = options
        self.port = options.port
        self.is_draining = False
        self.version = __version__
        self._providers = providers or Providers.installed()
        self._started = time.monotonic()
        self._state = ConfigurationState(loaded_at=utcnow(), endpoints=0)
        self._loaded_s = 0
        self._watch = FileWatch(options.files)
        self._reloading = asyncio.Lock()
        self._tasks = Tasks()
        self._server: HTTPServer | TornadoServer | None = None
        self._admin: TornadoServer | None = None
        self.admin_port = 0
        self._watching: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self._config = GatewayConfig(())
        self._healths = Healths()
        self.pools = Pools.none(time.monotonic)
        self._hook: Hook | None = None
        self._peers: Peers | None = None

    @property
    def uptime_s(self) -> float:
        """Return how long ago the process was made."""
        return time.monotonic() - self._started

    @property
    def config(self) -> GatewayConfig:
        """Return the configuration that is in use."""
        return self._config

    def configuration(self) -> ConfigurationState:
        """Return what is in use."""
        return self._state

    async def start(self) -> None:
        """Listen. `ConfigFault` when the configuration is wrong or the port is taken."""
        options = self.options
        config = await asyncio.to_thread(options.load)
        self._hook = load_hook(config.state_hook)
        self._join(config)
        self._use(config)
        await self.books.open()
        await self.keys.open()
        await self.batches.start()
        await self._listen()
        log.info(
            "Serving %s at http%s://%s:%d%s (version %s)",
            _counted(len(config.endpoints), "endpoint"),
            "s" if options.ssl_context else "",
            options.host,
            self.port,
            options.hub.prefix,
            __version__,
        )
        if options.reload_poll_s > 0:
            self._watching = asyncio.create_task(self._watch_files())

    def _join(self, config: GatewayConfig) -> None:
        options = self.options
        hub = options.hub
        self.metrics = Metrics(options.metrics_namespace)
        if options.own_socket is not None:
            self._peers = Peers(options.own_socket, options.peer_sockets, self.metrics)
        self.resolver = TokenResolver(
            hub.api_url,
            hub.service_name,
            access_scopes=hub.access_scopes,
            ttl_s=options.auth_ttl_s,
            grace_s=options.auth_grace_s,
            token_url=f"{hub.public_hub_url}token",
            ssl_context=hub.ssl_context,
        )
        self._uses_proxies = config.proxy_from_environment
        self.client = make_client(options.http_client, uses_environment=self._uses_proxies, dns=config.dns)
        self._prober = Prober(self.client, self._tune)
        self._directory = Directory(self.resolver.client, hub.api_token)
        self.books = Books(config, self._directory)
        self.books.gate.page = hub.public_url or hub.prefix
        self.pools.sharing = _sharing(config, 1 + len(options.peer_sockets))
        self.books.changed = self._relay_limits
        self.keys = KeyKeeper(config.keys, self.resolver.rules, self.books.database)
        self.resolver.keys = self.keys.ring
        self.resolver.asks_hub = hub.is_there
        catalogue = self._catalogue(config)
        secret = cookie_secret_from(hub.api_token)
        rooms = Rooms(
            self.resolver,
            self.books.gate,
            self.client,
            self.metrics,
            secret,
            time.monotonic,
            self.books.ledger,
            self.pools,
            options.keepalive_s,
        )
        self.gateway = Gateway(rooms, catalogue, logs_requests=options.log_requests)
        self._ids = RequestIds()
        self.batches = Batches(
            config.batches, self.books.database, self.gateway, self._rights, self._tasks, self._ids.next
        )
        self.batches.watch(self.metrics)
        self._took(config)
        self.metrics.watch_auth(self.resolver)
        if self.books.ledger is not None:
            self.metrics.watch_ledger(self.books.ledger)
        self.metrics.watch_limits(self.books.counts)
        self.metrics.watch_deployments(lambda: self.gateway.catalogue.states(time.monotonic()))
        self.metrics.watch_pools(self.pools.states)
        self.metrics.watch_connections(lambda: self.client.open_connections)
        self.metrics.watch_configuration(self.configuration)
        self.metrics.watch_version(__version__)

    async def _rights(self, caller: Caller) -> Caller | None:
        """Return the owner of a batch as they are known now; None once they are not any more."""
        if caller.kind == "key":
            return None if self.keys.ring is None else self.keys.ring.current(caller)
        return await self._directory.current(caller) if self.options.hub.is_there else caller

    def _catalogue(self, config: GatewayConfig) -> Catalogue:
        catalogue = build(
            config,
            self._providers.make,
            self.metrics,
            self.resolver.rules.scope,
            self.books.prices,
            self.books.overlays,
            self._healths,
        )
        catalogue.probed = probed(catalogue)
        return catalogue

    def _use(self, config: GatewayConfig) -> None:
        """Serve a configuration from now on."""
        if config.proxy_from_environment != self._uses_proxies:
            log.warning("Configuration: proxy_from_environment is new, which counts after a restart")
        self._config = config
        self.client.names.use(config.dns)
        self.pools.use(config.pools)
        self._prober.use(self.gateway.catalogue, self._hook)
        self.resolver.roles_of = self._directory.roles if self.books.needs_roles else None

    def _relay_limits(self) -> None:
        """Serve the same configuration with the limits that staff set."""
        self.gateway.use(self._catalogue(self._config))
        self._prober.use(self.gateway.catalogue, self._hook)

    def _tune(self, pool: str, waiting: int) -> None:
        found = self.pools.get(pool)
        if found is not None:
            found.tune(waiting)

    def _took(self, config: GatewayConfig) -> None:
        for warning in config.warnings:
            log.warning("Configuration: %s", warning)
        self._state = replace(
            self._state, loaded_at=utcnow(), endpoints=len(config.endpoints), last_error=None
        )
        self._loaded_s = int(self._state.loaded_at.timestamp())
        self._watch.watch(config.files)

    # Listening

    async def _listen(self) -> None:
        options = self.options
        app = application(options.hub.prefix, **self._settings())
        delegate: HTTPServerConnectionDelegate = app
        if options.fast_lane:
            delegate = Lane(
                app,
                self.gateway,
                HotPaths(options.hub.prefix),
                self._ids,
                self._tasks,
                options.max_body_bytes,
                FirstLane(options.hub.prefix),
            )
        sockets = bind_to(options.host, options.port, reuse_port=options.reuse_port)
        self.port = sockets[0].getsockname()[1]
        self._server = self._make_server(delegate)
        if isinstance(self._server, TornadoServer):
            self._server.add_sockets(sockets)
        else:
            await self._server.start(sockets)
        if options.admin_port:
            self._listen_for_admins(options.admin_port)
        if self._peers is not None:
            await self._peers.start()

    def _listen_for_admins(self, address: str) -> None:
        """Serve what looks after the gateway on a port of its own, which is this machine's unless said."""
        host, _, port = address.rpartition(":")
        host = host.strip("[]") or "127.0.0.1"
        if not port.isascii() or not port.isdigit() or int(port) > 65535:
            raise ConfigFault("admin_port", "must be a port such as 8081, or HOST:PORT")
        sockets = bind_to(host, int(port), "admin_port", reuse_port=self.options.reuse_port)
        self.admin_port = sockets[0].getsockname()[1]
        self._admin = TornadoServer(admin_application(**self._settings()))
        self._admin.add_sockets(sockets)
        log.info("Admin paths /ping and /metrics at http://%s:%d", host, self.admin_port)

    def _make_server(self, delegate: HTTPServerConnectionDelegate) -> HTTPServer | TornadoServer:
        options = self.options
        if options.http_server == "tornado":
            return TornadoServer(
                delegate,
                xheaders=options.xheaders,
                ssl_options=options.ssl_context,
                max_body_size=options.max_body_bytes,
                max_buffer_size=options.max_body_bytes + 1024 * 1024,
                idle_connection_timeout=3600,
            )
        limits = ConnectionLimits(max_body_bytes=options.max_body_bytes)
        return HTTPServer(delegate, limits, ssl_context=options.ssl_context, xheaders=options.xheaders)

    def _settings(self) -> dict[str, Any]:
        options, hub = self.options, self.options.hub
        secret = cookie_secret_from(hub.api_token)
        return {
            "gateway": self.gateway,
            "tasks": self._tasks,
            "request_ids": self._ids,
            "loaded_at": lambda: self._loaded_s,
            "max_body_bytes": options.max_body_bytes,
            "status": self,
            "metrics": self.metrics,
            "peers": self._peers,
            "metrics_enabled": options.metrics_enabled,
            "authenticate_prometheus": options.authenticate_prometheus,
            "resolver": self.resolver,
            "accounts": self.books,
            "batches": self.batches.desk,
            "keys": self.keys,
            "pools": self.pools,
            "site": Site(
                title=options.docs_title,
                description=options.docs_description,
                version=__version__,
                prefix=hub.prefix,
                hub_url=hub.public_hub_url,
                service_name=hub.service_name,
                public_url=hub.public_url,
            ),
            "hub_auth": GatewayHubOAuth(
                self.resolver,
                secret,
                api_url=hub.api_url,
                api_token=hub.api_token,
                base_url=hub.prefix,
                oauth_client_id=hub.client_id,
                oauth_redirect_uri=hub.redirect_uri,
                **_hub_traits(hub.public_hub_url),
            ),
            "cookie_secret": secret,
        }

    # New configurations

    async def reload(self) -> bool:
        """Take the configuration anew; False when it is wrong, and the old one stays in use."""
        async with self._reloading:
            try:
                config = await asyncio.to_thread(self.options.load)
                hook = load_hook(config.state_hook)
                catalogue = self._catalogue(config)
            except ConfigFault as fault:
                self._refuse(fault)
                return False
            self.books.use(config)
            self.keys.use(config.keys)
            self.batches.use(config.batches)
            self.gateway.use(catalogue)
            self._hook = hook
            self._use(config)
            self._state = replace(self._state, successes=self._state.successes + 1)
            self._took(config)
            await self.books.refresh_groups()
            log.info("Loaded the configuration anew: %s", _counted(len(config.endpoints), "endpoint"))
            return True

    def _refuse(self, fault: ConfigFault) -> None:
        log.error("The new configuration is not used, the old one stays: %s", fault)
        failures = self._state.failures + 1
        self._state = replace(self._state, failures=failures, last_error=str(fault))
        self._watch.watch(dict.fromkeys((*self._watch.paths, *fault.files)))

    async def _watch_files(self) -> None:
        while True:
            await asyncio.sleep(self.options.reload_poll_s)
            if await asyncio.to_thread(self._watch.changed):
                await self.reload()

    # The end

    def end(self) -> None:
        """Begin to stop; `run` returns once that is done. Safe in a signal handler of the loop."""
        self._ended.set()

    async def run(self, *, started: Callable[[], None] | None = None) -> None:
        """Start, call `started`, serve until `end`, and stop."""
        await self.start()
        if started is not None:
            started()
        try:
            await self._ended.wait()
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Take no new requests, let those that run finish within `drain_timeout_s`, then cut them off."""
        options = self.options
        self.is_draining = True
        if self._watching is not None:
            self._watching.cancel()
        if options.drain_delay_s > 0:
            await asyncio.sleep(options.drain_delay_s)
        self.batches.halt()
        log.info("Stopping: %s still running", _counted(len(self._tasks), "request"))
        if self._server is not None:
            self._server.stop()
        if not await self._tasks.wait(options.drain_timeout_s):
            log.warning("Cut off %s that took too long", _counted(len(self._tasks), "request"))
            self.gateway.stop()
            await self._tasks.cancel()
        await self.batches.stop()
        if self._server is not None:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._server.close_all_connections(), _CUT_WAIT_S)
        await self._prober.stop()
        if self._admin is not None:  # last: somebody may want to see the end
            self._admin.stop()
            await self._admin.close_all_connections()
        if self._peers is not None:
            self._peers.stop()
        await self.client.close()
        await self.gateway.settled()
        await self.pools.close()
        await self.keys.close()
        await self.books.close()
        await self.resolver.close()
        log.info("Stopped")


def _sharing(config: GatewayConfig, processes: int) -> SharedPools | None:
    """Return what shares pools with other processes, where the configuration says by which store."""
    store = config.store
    if store.url is None:
        return None
    return SharedPools(
        PoolStore(store.url, prefix=store.prefix, timeout_s=store.timeout_s, processes=processes)
    )


def _hub_traits(public_hub_url: str) -> dict[str, Any]:
    """Split the Hub's public address into what JupyterHub's library wants."""
    scheme, separator, rest = public_hub_url.partition("://")
    if not separator:
        return {"hub_prefix": public_hub_url}
    host, _, path = rest.partition("/")
    return {"hub_host": f"{scheme}://{host}", "hub_prefix": f"/{path}"}


def bind_to(host: str, port: int, setting: str = "port", *, reuse_port: bool = False) -> Sequence[Any]:
    """Listen; with `reuse_port` beside others that do. `ConfigFault` where that cannot be."""
    try:
        return bind_sockets(
            port, None if host in ("", "*") else host, backlog=BACKLOG, reuse_port=reuse_port
        )
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            problem = (
                f"port {port} of {host} is in use. Another gateway may still run there, such as one that "
                "outlived a Hub that was killed: stop it, or choose another port"
            )
        else:
            problem = f"cannot listen on {host}, port {port}: {os.strerror(error.errno or 0)}"
        raise ConfigFault(setting, problem) from None


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
