"""Jupyter notebooks as Markdown: their cells in order, what they print left out.

The format: https://nbformat.readthedocs.io/en/latest/format_description.html, its versions 3 and 4.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

__all__ = ["NotANotebook", "notebook_text"]

_FENCE = re.compile(r"^ {0,3}(`{3,}|~{3,})(.*)$", re.MULTILINE)
_HIGHEST_HEADING = 6


class NotANotebook(ValueError):
    """The text is no notebook, and why."""


def notebook_text(text: str) -> str:
    """Return the cells of a notebook as one Markdown text: prose as it stands, code in fences of its language.

    Raises:
        NotANotebook: it is none, or of a version that nobody knows.
    """
    try:
        notebook = json.loads(text)
    except ValueError as error:
        raise NotANotebook(f"not JSON ({error})") from None
    except RecursionError:
        raise NotANotebook("not JSON that a notebook would hold (nested too deep)") from None
    if not isinstance(notebook, dict):
        raise NotANotebook("not a notebook: no object")
    language = _language(notebook.get("metadata"))
    parts = [_part(cell, language) for cell in _cells(notebook)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _cells(notebook: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The cells, those of a notebook of version 3 from all its worksheets."""
    sheets = notebook.get("worksheets")
    holders = [notebook] if sheets is None else sheets
    if not isinstance(holders, list) or not all(
        isinstance(holder, dict) and isinstance(holder.get("cells"), list) for holder in holders
    ):
        raise NotANotebook("not a notebook: it has no list of cells")
    for holder in holders:
        yield from (cell for cell in holder["cells"] if isinstance(cell, dict))


def _part(cell: dict[str, Any], language: str) -> str:
    """A cell as Markdown; "" for one that is neither prose nor code, or empty."""
    source = _source(cell).strip("\n")
    if not source.strip():
        return ""
    kind = cell.get("cell_type")
    if kind == "markdown":
        return source + _closing_fence(source)
    if kind == "heading":  # of version 3
        level = cell.get("level")
        return f"{'#' * (min(max(level, 1), _HIGHEST_HEADING) if isinstance(level, int) else 1)} {source}"
    if kind == "code":
        longest = max((len(run) for run in re.findall("`{3,}", source)), default=2)
        return f"{'`' * (longest + 1)}{language}\n{source}\n{'`' * (longest + 1)}"
    return ""


def _source(cell: dict[str, Any]) -> str:
    """What a cell holds: text, or a list of lines; version 3 calls that of code ``input``."""
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        source = "".join(line for line in source if isinstance(line, str))
    return source.replace("\r\n", "\n").replace("\r", "\n") if isinstance(source, str) else ""


def _closing_fence(source: str) -> str:
    """What ends the code that a cell of prose begins and does not end: the next cell is another text."""
    open_fence = ""
    for fence, rest in _FENCE.findall(source):
        if not open_fence:
            open_fence = fence if "`" not in rest or fence[0] == "~" else ""
        elif fence[0] == open_fence[0] and len(fence) >= len(open_fence) and not rest.strip():
            open_fence = ""
    return f"\n{open_fence}" if open_fence else ""


def _language(metadata: Any) -> str:
    """The name of the notebook's language, as a fence has it; "" where none is told."""
    if not isinstance(metadata, dict):
        return ""
    for place in ("language_info", "kernelspec"):
        told = metadata.get(place)
        name = (
            (told.get("name") if place == "language_info" else told.get("language")) if isinstance(told, dict) else ""
        )
        if isinstance(name, str) and re.fullmatch(r"[\w+#.-]{1,30}", name):
            return name.lower()
    return ""
