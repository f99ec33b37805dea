"""Which blocks of the documentation are not run here, by name, and why; those that another test runs."""

from __future__ import annotations

from collections.abc import Mapping

CANNOT: Mapping[str, str] = {}
ELSEWHERE: Mapping[str, str] = {}
