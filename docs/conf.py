"""The site: Sphinx over docs/, examples/, README.md and CHANGELOG.md. ``make docs`` builds it into build/docs/.

The source folder is the project's root, so that a link between two files works on GitHub and on the site alike.
"""

import re

from sphinx.application import Sphinx

import dd

project = "dd"
copyright = "2026, the dd authors"
author = "The dd authors"
release = version = dd.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
root_doc = "docs/index"
include_patterns = ["docs/*.md", "examples/*.md", "examples/*.ipynb", "README.md", "CHANGELOG.md"]
exclude_patterns = [".*", "build", "figures", "results"]  # folders that need not be searched
html_extra_path = ["site/index.html"]  # build/docs/index.html leads to docs/index.html

html_theme = "furo"
html_static_path = ["site/static"]
html_css_files = ["site.css"]
html_title = f"dd {release}"
html_copy_source = False
html_show_sphinx = False

myst_heading_anchors = 4

nb_execution_mode = "cache"  # notebooks are kept without outputs; those that have changed are run again
nb_execution_cache_path = "build/notebooks"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 300
nb_output_stderr = "remove"  # progress

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True


def link_pages(app: Sphinx, what: str, name: str, obj: object, options: object, lines: list[str]) -> None:
    """Make links of the pages that docstrings name, as in ``docs/own.md``."""
    lines[:] = [re.sub(r"(``)?\bdocs/(\w+)\.md(``)?", r":doc:`/docs/\2`", line) for line in lines]


def setup(app: Sphinx) -> None:
    """What Sphinx calls."""
    app.connect("autodoc-process-docstring", link_pages)
