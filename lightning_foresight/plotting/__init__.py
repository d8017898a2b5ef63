"""Figures: one a file. Needs the ``plot`` extra; nothing here is imported unless a figure is asked for."""
