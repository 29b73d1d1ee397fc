"""``indexes/<corpus>/CURRENT`` names the live generation; the agent, which needs nothing else of an index, asks too."""

from __future__ import annotations

from pathlib import Path

__all__ = ["CURRENT", "current_name"]

CURRENT = "CURRENT"


def current_name(index_dir: Path) -> str | None:
    """Return the name of the live generation, or None where there is none yet."""
    try:
        return (index_dir / CURRENT).read_text(encoding="utf-8", errors="replace").strip() or None
    except FileNotFoundError:
        return None
