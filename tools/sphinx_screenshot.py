"""The directive `screenshot` of the documentation: a picture that `tools.screenshots` takes.

A picture that is not there is a warning, which `make docs` takes for an error. Where no browser can be had,
`sphinx -D without_screenshots=1` says in the place of each picture what it would show.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.parsers.rst import directives
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

FOLDER = "_pictures"
log = logging.getLogger(__name__)


class Screenshot(SphinxDirective):
    """`screenshot NAME`, with the option `alt`, which is required, and `width`."""

    required_arguments = 1
    option_spec = {  # noqa: RUF012 - as docutils has it
        "alt": directives.unchanged_required,
        "width": directives.length_or_percentage_or_unitless,
    }

    def run(self) -> list[nodes.Node]:
        name, alt = self.arguments[0], self.options["alt"]
        if self.config.without_screenshots:
            return [nodes.paragraph("", "", nodes.emphasis("", f"A picture: {alt}"))]
        return [node for theme in ("light", "dark") for node in self._image(name, theme, alt)]

    def _image(self, name: str, theme: str, alt: str) -> list[nodes.Node]:
        file = f"{FOLDER}/{name}-{theme}.png"
        if not Path(self.env.srcdir, file).exists():
            how = "python -m tools.screenshots takes it; -D without_screenshots=1 does without"
            log.warning("%s is not there: %s", file, how, location=self.get_location())
            return []
        more = {"width": self.options["width"]} if "width" in self.options else {}
        classes = [f"only-{theme}", "screenshot"]
        return [nodes.image(uri=f"/{file}", alt=alt, classes=classes, **more)]


def setup(app: Sphinx) -> dict[str, Any]:
    app.add_directive("screenshot", Screenshot)
    app.add_config_value("without_screenshots", False, "env", types=frozenset({bool, str, int}))
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
