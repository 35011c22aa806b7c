"""What is said where a package is missing that only some files need: which one, and how it is added without moving another."""

import sys

# What pip is told to add, with nothing that it needs besides: where that is more than these, it is in every program that trains.
_ADDED = {"openpyxl": "openpyxl et-xmlfile"}


def say_missing(package: str, instead: str) -> str:
    """The end of a sentence. ``instead``: what does without."""
    command = f'"{sys.executable}" -m pip install --no-deps {_ADDED.get(package, package)}'
    return f"reading it takes the package {package}, which is missing. {instead}; or add it ({command}), and start the program again"
