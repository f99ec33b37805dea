"""Write the documentation of the metrics: `python -m jupyterhub_ai_gateway.metrics`."""

from __future__ import annotations

import sys

from . import reference

sys.stdout.write(reference())
