"""Install what only the system's package manager has, where that is possible, and say so where it is not.

python tools/system_packages.py browser    Chromium and its driver, for the tests of the pages
python tools/system_packages.py databases  Redis and PostgreSQL, for the tests of stores and the ledger
python tools/system_packages.py bench      nginx and a C compiler, for the benchmark
python tools/system_packages.py r          R with httr2, for the test of its cell
python tools/system_packages.py venv       what Debian leaves out of Python
"""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys

NEEDS: dict[str, dict[str, tuple[str, ...]]] = {
    "browser": {"chromium": ("chromium",), "chromedriver": ("chromium-driver",)},
    "bench": {"nginx": ("nginx-light",), "cc": ("gcc", "libc6-dev")},
    "databases": {"redis-server": ("redis-server",), "initdb": ("postgresql",)},
    "r": {"Rscript": ("r-base-core", "r-cran-httr2", "r-cran-askpass")},
    "venv": {"no program of that name": ("python3-venv",)},
}
WITHOUT = {
    "browser": "the tests of the pages are skipped; install chromium and chromium-driver",
    "bench": "the benchmark leaves something out; install nginx and a C compiler",
    "databases": "the tests with real databases are skipped; install redis-server and postgresql",
    "r": "the test of the cell for R is skipped; install R, httr2 and askpass",
    "venv": "install python3-venv",
}


def main(purpose: str) -> int:
    folders = ["/usr/sbin", "/usr/local/sbin", *glob.glob("/usr/lib/postgresql/*/bin")]
    path = os.pathsep.join([os.environ.get("PATH", ""), *folders])
    missing = [
        name
        for program, names in NEEDS[purpose].items()
        if not shutil.which(program, path=path)
        for name in names
    ]
    if not missing:
        return 0
    if shutil.which("apt-get") and os.geteuid() == 0 and install(missing):
        return 0
    print(f"{', '.join(missing)}: not installed, so {WITHOUT[purpose]}", file=sys.stderr)
    return 1 if os.environ.get("CI") or purpose == "venv" else 0


def install(names: list[str]) -> bool:
    """Install Debian packages, from fresh lists only if the old ones are no use."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "--yes", "--quiet=2", "--no-install-recommends", *names]
    for update in (False, True):
        if update:
            subprocess.run(["apt-get", "update", "--quiet=2"], env=environment, check=False)
        if subprocess.run(command, env=environment, check=False, stdout=subprocess.DEVNULL).returncode == 0:
            return True
    return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
