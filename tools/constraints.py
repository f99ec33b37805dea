"""Write which releases the tests are for, from what is installed: `python -m tools.constraints`.

Vendors' packages are judges here: a new release with a new field makes a test red, as it should, but at a
time of ours. `make newest` installs the newest, runs what they judge, and then this.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

FILE = Path(__file__).parent.parent / "tests" / "constraints.txt"
JUDGES = ("anthropic", "botocore", "cohere", "google-genai", "mistralai", "openai")
"""Whose types say which fields there are."""
TOOLS = ("import-linter", "mypy", "pytest", "ruff")
"""Whose opinions on code change."""
HEAD = "# Written by `python -m tools.constraints`, after `make newest` was green.\n"


def main() -> None:
    if sys.argv[1:] == ["--names"]:
        print(*JUDGES, *TOOLS)
        return
    FILE.write_text(HEAD + "".join(f"{name}=={version(name)}\n" for name in sorted(JUDGES + TOOLS)))


if __name__ == "__main__":
    main()
