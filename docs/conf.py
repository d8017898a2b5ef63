"""Sphinx configuration."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import lightning_foresight

sys.path.insert(0, str(Path(__file__).parent))

import benchmark_figures
from foresight_scraper import reset_argv

project = "lightning_foresight"
author = "The lightning_foresight developers"
release = lightning_foresight.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_gallery.gen_gallery",
]
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
autosummary_generate = True
autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the docstrings say what an argument is
napoleon_google_docstring = True
napoleon_use_rtype = False
napoleon_use_ivar = True
html_theme = "furo"
html_title = "lightning_foresight"
html_static_path = ["_static"]
exclude_patterns = ["_build", "auto_examples/**/*.ipynb", "auto_examples/**/*.py.md5"]
suppress_warnings = ["config.cache"]


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"run_all\.py$",
    "image_scrapers": ("foresight_scraper", "matplotlib"),
    "abort_on_example_error": True,
    "reset_argv": reset_argv,
    "remove_config_comments": True,
    "show_memory": False,
    "parallel": os.cpu_count() or 1,
    "plot_gallery": "True",
    "within_subsection_order": "FileNameSortKey",
}


def _skip_fields(app, what, name, obj, skip, options):
    """Leave out the fields of named tuples: the docstring of the class describes them."""
    return True if type(obj).__name__ == "_tuplegetter" else None


def setup(app):
    benchmark_figures.draw_all()
    app.connect("autodoc-skip-member", _skip_fields)
