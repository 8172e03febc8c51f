"""Sphinx: `make docs` builds these pages with it."""

import httpio

project = "httpio"
copyright = "httpio contributors"
version = release = httpio.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinxcontrib.mermaid"]
myst_heading_anchors = 3
myst_fence_as_directive = ["mermaid"]

# Single backticks in docstrings name things, as they do in Markdown.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_type_aliases = {name: name for name in ("Body", "FieldsLike", "Step", "Trailers")}
autodoc_preserve_defaults = True
maximum_signature_line_length = 100
toc_object_entries = False

html_theme = "alabaster"
html_static_path = ["_static"]  # its custom.css is the theme's own name
html_theme_options = {
    "description": "HTTP/1.1 for many objects",
    "page_width": "72em",
    "body_max_width": "60em",
    "sidebar_width": "15em",
    "code_font_size": "0.77em",  # 100 columns fit
}
