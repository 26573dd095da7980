"""Reading the tables of our own pages, which tests hold to the code."""

from __future__ import annotations

import re


def table(page: str, heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, as cells."""
    section = re.split(r"^## ", page, flags=re.MULTILINE)
    [text] = [part for part in section if part.startswith(heading)]
    lines = re.findall(r"^\|(.+)\|$", text, re.MULTILINE)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)] for line in lines][2:]


def named(cell: str) -> list[str]:
    """What stands in a cell as code."""
    return re.findall(r"`([^`]+)`", cell)
