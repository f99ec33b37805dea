"""Some minutes of chaos: three deployments of which two fail at random, in every way, under load."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import tracemalloc
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil
import pytest
from fakes.upstream import FakeUpstream, Reply, chat_chunk, chat_completion, sse
from served import KEY, served
from test_accounting import quiet
from test_routing import FAILURES, ROLE, STREAM_FAILURES, chat, deployment

TURNS = int(os.environ.get("CHAOS_TURNS", "1000"))
AT_ONCE = 20
WARM = 100
"""After so many turns everything that is kept on purpose is there."""


class Moody:
    """Fails every other time, in a way of its own."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def __call__(self, request: Any) -> Any:
        if self._chance.random() < 0.5:
            kinds = STREAM_FAILURES if request.document.get("stream") else FAILURES
            return self._chance.choice([script for _, script in kinds[:-1]])
        if request.document.get("stream"):
            chunks = sse(chat_chunk({"content": "well"}), chat_chunk({}, finish_reason="stop"))
            return Reply.stream(*ROLE, *chunks, b"data: [DONE]\n\n")
        return Reply.json(chat_completion("well"))


def held_bytes() -> int:
    """Return how much memory the gateway's own lines have asked for and not given back."""
    gc.collect()
    own = tracemalloc.take_snapshot().filter_traces([tracemalloc.Filter(True, "*/jupyterhub_ai_gateway/*")])
    return sum(each.size for each in own.statistics("filename"))


@pytest.mark.gen_test(timeout=900)
async def test_minutes_of_chaos_lose_and_leak_nothing(tmp_path: Path) -> None:
    chance = random.Random(7)
    with ExitStack() as stack:
        a, b, c = (stack.enter_context(FakeUpstream(key=KEY)) for _ in range(3))
        a.always(Moody(chance))
        b.always(Moody(chance))
        places = [deployment(name, up) for name, up in (("a", a), ("b", b), ("c", c))]
        ledger = {"url": f"sqlite:///{tmp_path}/l.sqlite", "flush_s": 0.05}
        config = {
            "ledger": ledger,
            "policies": [{"resource": "concurrency", "limit": 1000}],
            "health": {"max_error_rate": None},  # or those that fail would soon be left in peace
        }
        async with served(None, [chat(*places)], config=config) as running:
            statuses: Counter[int] = Counter()
            warm_bytes = warm_files = 0
            tracemalloc.start()
            for turn in range(TURNS):
                asked = (running.chat(stream=chance.random() < 0.5) for _ in range(AT_ONCE))
                answers = await asyncio.gather(*asked)
                statuses.update(answer.status for answer in answers)
                assert all(b'"error"' not in answer.body for answer in answers)
                for up in (a, b, c):
                    up.requests.clear()  # what the fakes remember is not the gateway's
                if turn == min(WARM, TURNS // 2):
                    warm_bytes, warm_files = held_bytes(), psutil.Process().num_fds()
            assert statuses == {200: TURNS * AT_ONCE}
            await quiet(running)
            assert held_bytes() - warm_bytes < 1024 * 1024
            assert psutil.Process().num_fds() - warm_files < 3 * AT_ONCE
            tracemalloc.stop()
            database, books = running.service.books.database, running.service.books.ledger
            assert database is not None
            assert books is not None
            assert await asyncio.to_thread(books.flush)
            assert books.written == TURNS * AT_ONCE
            for each in running.service.gateway.catalogue._endpoints["chat"].deployments:
                assert each.health.in_flight == 0
                assert all(cell.in_flight == 0 for cell in each.cells.values())
            counters: Any = running.service.books.counters
            assert counters.open_reservations == 0
