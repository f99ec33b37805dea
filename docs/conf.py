"""How the documentation is built: `make docs`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

project = "jupyterhub-ai-gateway"
author = "The jupyterhub-ai-gateway contributors"
extensions = ["myst_parser", "jupyterhub_sphinx_theme", "tools.sphinx_screenshot"]
html_theme = "jupyterhub_sphinx_theme"
exclude_patterns = ["_build"]
html_static_path = ["_static"]
html_css_files = ["screenshots.css"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["myst.header"]
html_theme_options = {"header_links_before_dropdown": 6}
