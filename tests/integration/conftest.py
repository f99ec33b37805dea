"""A Hub that the tests of this folder share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .hub import GatewayHub, RunningHub, start_gateway_hub


@pytest.fixture(scope="session")
def gateway_hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayHub]:
    """Share one Hub among the tests; those that hurt it must heal it."""
    started = start_gateway_hub(tmp_path_factory.mktemp("hub"))
    try:
        yield started
    finally:
        started.hub.stop()


@pytest.fixture(scope="session")
def hub(gateway_hub: GatewayHub) -> RunningHub:
    """Return the shared Hub itself."""
    return gateway_hub.hub
