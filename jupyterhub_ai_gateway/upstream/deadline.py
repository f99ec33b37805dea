"""A limit of time that never swallows a cancellation.

`asyncio.wait_for` did, before Python 3.12, when both came at once: a caller who left would have been
served to the end.
"""

from __future__ import annotations

import sys

if sys.version_info >= (3, 11):
    from asyncio import timeout
else:  # what aiohttp brings there
    from async_timeout import timeout

__all__ = ["timeout"]
