"""What every test lives with: an event loop for coroutines, and no unexpected warning in the log."""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterator

import databases
import pytest
from expected import ExpectedLog, Recorder
from tornado.ioloop import IOLoop


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run every coroutine test on pytest-tornado's loop, without a mark on each of them."""
    for item in items:
        is_coroutine = inspect.iscoroutinefunction(getattr(item, "obj", None))
        if is_coroutine and item.get_closest_marker("gen_test") is None:
            item.add_marker(pytest.mark.gen_test)


@pytest.fixture
def io_loop() -> Iterator[IOLoop]:
    """Stand in for pytest-tornado's fixture, which calls what tornado has deprecated."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        yield IOLoop.current()
        leftover = asyncio.all_tasks(loop)
        for task in leftover:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*leftover, return_exceptions=True))
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


@pytest.fixture(autouse=True)
def expected_log() -> Iterator[ExpectedLog]:
    """Fail the test on a log line of WARNING or worse that it did not `take`."""
    recorder = Recorder()
    root = logging.getLogger()
    root.addHandler(recorder)
    try:
        yield ExpectedLog(recorder)
    finally:
        root.removeHandler(recorder)
    assert not recorder.lines, f"unexpected log lines: {recorder.lines}"


@pytest.fixture(scope="session")
def postgres() -> Iterator[databases.PostgreSQL]:
    """Run one PostgreSQL for all tests that want one; each makes databases of its own."""
    with databases.postgresql() as server:
        yield server


@pytest.fixture
def redis_server() -> Iterator[databases.Redis]:
    """Run a Redis for one test, which may do with it what it wants."""
    with databases.redis() as server:
        yield server
