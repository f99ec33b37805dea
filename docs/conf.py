"""How the documentation is built: `make docs`."""

project = "jupyterhub-ai-gateway"
author = "The jupyterhub-ai-gateway contributors"
extensions = ["myst_parser"]
html_theme = "jupyterhub_sphinx_theme"
extensions.append("jupyterhub_sphinx_theme")
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
suppress_warnings = ["myst.header"]
html_theme_options = {"header_links_before_dropdown": 6}
