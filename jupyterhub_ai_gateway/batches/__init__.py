"""Jobs that outlive a request: files of lines in, files of answers out.

`desk` is what handlers ask, `runner` works on the jobs, through the same gateway as every request.
`journal` keeps what is done, `lines` knows the format of the files, `folders` where they are.
"""

from __future__ import annotations

from .desk import Desk, Upload
from .folders import Folder
from .means import Holder, Rights
from .runner import Runner

__all__ = ["Desk", "Folder", "Holder", "Rights", "Runner", "Upload"]
