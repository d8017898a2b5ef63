"""Shows the figures among an example's variables; ours are made without pyplot, which the gallery looks at."""

from __future__ import annotations

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


class ForesightScraper:
    """Saves every figure once, in the order of the script."""

    def __init__(self) -> None:
        self.shown: list[Figure] = []  # kept, so that identities stay unique

    def __call__(self, block, block_vars, gallery_conf):
        paths = []
        for value in block_vars["example_globals"].values():
            for one in value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]:
                if isinstance(one, Figure) and not any(one is other for other in self.shown):
                    self.shown.append(one)
                    paths.append(next(block_vars["image_path_iterator"]))
                    one.savefig(paths[-1])
        return figure_rst(paths, gallery_conf["src_dir"])


# Examples that run side by side ask for the scraper at every block.
SCRAPER = ForesightScraper()


def _get_sg_image_scraper():
    return SCRAPER


def reset_argv(gallery_conf, script_vars):
    """Arguments of the examples: a progress bar makes no page."""
    return ["--no-progress"] if script_vars["src_file"].endswith("quickstart.py") else []
