"""Tasks that need no download."""

from lightning_foresight.data.tasks import checkerboard, parity, recursive_majority, spherical, tishby_labels

__all__ = ["checkerboard", "parity", "recursive_majority", "spherical", "tishby_labels"]
