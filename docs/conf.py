"""Sphinx configuration."""

from __future__ import annotations

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst

import lightning_foresight

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
html_theme = "furo"
html_title = "lightning_foresight"
html_static_path = ["_static"]
exclude_patterns = ["_build", "auto_examples/**/*.ipynb", "auto_examples/**/*.py.md5"]
suppress_warnings = ["config.cache"]


class ForesightFigures:
    """Shows the figures among an example's variables; ours are made without pyplot, which the gallery looks at."""

    def __init__(self) -> None:
        self.shown: set[int] = set()
        self.kept: list[Figure] = []  # keeps identities unique

    def __repr__(self) -> str:
        return "ForesightFigures"

    def __call__(self, block, block_vars, gallery_conf):
        found = []
        for value in block_vars["example_globals"].values():
            candidates = value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            found += [one for one in candidates if isinstance(one, Figure) and id(one) not in self.shown]
        paths = []
        for figure in found:
            self.shown.add(id(figure))
            self.kept.append(figure)
            path = next(block_vars["image_path_iterator"])
            figure.savefig(path)
            paths.append(path)
        return figure_rst(paths, gallery_conf["src_dir"])


sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "auto_examples",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"run_all\.py$",
    "image_scrapers": (ForesightFigures(), "matplotlib"),
    "abort_on_example_error": True,
    "remove_config_comments": True,
    "show_memory": False,
    "plot_gallery": "True",
    "within_subsection_order": "FileNameSortKey",
}
