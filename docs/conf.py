"""Settings of the documentation; `make docs` builds it."""

import os
import shutil
import sys
from pathlib import Path

from rnnatlas._version import __version__

DOCS = Path(__file__).parent
MADE = DOCS / "_build" / "made"
"""What pages make by running their commands; it goes into the site."""

BIN = Path(sys.executable).parent

project = "rnnatlas"
copyright = "the rnnatlas developers, Apache-2.0"
version = release = __version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"rnnatlas {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath", "attrs_block"]
myst_heading_anchors = 4
highlight_language = "text"  # of blocks that do not say theirs

# Pages run their own commands in a shell or in Python; a page is run again when one of its commands changes.
nb_execution_mode = "cache"
nb_execution_cache_path = str(DOCS / "_build" / "executed")
nb_execution_timeout = 1200  # a cell, on a busy machine
nb_execution_raise_on_error = True
nb_merge_streams = True
nb_kernel_rgx_aliases = {".*python.*": "python3"}

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
napoleon_google_docstring = True
autosummary_generate = True

os.environ.update(
    PATH=f"{BIN}{os.pathsep}{os.environ['PATH']}",  # for the commands of pages
    RNNATLAS_BIN=str(BIN),
    RNNATLAS_PAGES=str(DOCS),
    RNNATLAS_MADE=str(MADE),
    COLUMNS="100",
    TERM="dumb",
    NO_COLOR="1",
    KERAS_BACKEND="torch",
    PYTHONWARNINGS="ignore",
    TF_CPP_MIN_LOG_LEVEL="3",
)


def add_what_pages_made(app, exception):
    """Copies reports and maps beside the pages that link to them."""
    if exception is None and app.builder.name == "html":
        shutil.copytree(MADE, app.outdir / "made", dirs_exist_ok=True)


def setup(app):
    """What Sphinx calls first."""
    MADE.mkdir(parents=True, exist_ok=True)
    app.connect("build-finished", add_what_pages_made)
