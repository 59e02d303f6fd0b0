"""How Sphinx builds the site; `scripts/docs` collects its pages."""

project = "regstore"
author = "the authors of regstore"
extensions = ["myst_parser"]
source_suffix = {".md": "markdown"}
root_doc = "index"
html_theme = "alabaster"
html_theme_options = {"description": "The storage toolkit for registry volumes", "fixed_sidebar": True}
html_show_copyright = False
html_copy_source = False
highlight_language = "none"
# Links such as page.md#a-heading, as a forge understands them.
myst_heading_anchors = 3
