"""No block of the documentation is forgotten, and no list names one that is gone."""

from __future__ import annotations

import ast

from .blocks import BLOCKS, PAGES, ROOT
from .lists import CANNOT, ELSEWHERE, WHOLE_PAGES
from .stories import is_of_the_hub, told

RUN = ("python", "ipython", "bash", "shell", "yaml")
"""The languages whose blocks are run unless a list names them."""


def test_every_block_is_run_or_named() -> None:
    found = [told(each) for each in PAGES.values()]
    run = {block.name for blocks in found for block in blocks}
    run |= {name for name, block in BLOCKS.items() if block.language == "yaml" or is_of_the_hub(block)}
    run |= {name for name, block in BLOCKS.items() if block.page in WHOLE_PAGES}
    forgotten = sorted(set(BLOCKS) - run - set(CANNOT) - set(ELSEWHERE))
    assert forgotten == [], "run it, or name it in tests/documented/lists.py"


def test_lists_name_blocks_that_are_there() -> None:
    assert sorted({*CANNOT, *ELSEWHERE} - set(BLOCKS)) == []
    assert sorted(set(CANNOT) & set(ELSEWHERE)) == []
    assert sorted(set(WHOLE_PAGES) - set(PAGES)) == []


def test_lists_name_tests_that_are_there() -> None:
    for where in sorted({*ELSEWHERE.values(), *WHOLE_PAGES.values()}):
        path, _, name = where.partition("::")
        tree = ast.parse((ROOT / path).read_text())
        defined = [
            node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ]
        assert name in defined, where
