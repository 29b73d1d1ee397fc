"""What a run leaves behind until it is finished, so that the same command goes on from there after a kill."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retrieval.durable import replace_text
from retrieval.workspace import Workspace
from trainer.checkpoints import digest
from trainer.recipes import Recipe

__all__ = ["Unfinished"]

FOLDER = ".unfinished"
SEARCH = "search.json"
KEPT_DAYS = 7


class Unfinished:
    """The folder of one run: what ``auto`` chose, and the training's checkpoint and log."""

    def __init__(self, workspace: Workspace, *parts: object) -> None:
        """``parts`` are all that the run's result depends on; runs that differ in one have folders of their own."""
        everything = workspace.models_dir / FOLDER
        self.folder = everything / digest(*parts)[:16]
        _sweep(everything, self.folder)
        self.folder.mkdir(parents=True, exist_ok=True)

    def chosen(self) -> tuple[Recipe, list[dict[str, Any]]] | None:
        """What ``auto`` chose before the kill, and what it had tried."""
        file = self.folder / SEARCH
        if not file.exists():
            return None
        value = json.loads(file.read_text(encoding="utf-8"))
        fields: dict[str, Any] = {
            name: tuple(item) if isinstance(item, list) else item for name, item in value["recipe"].items()
        }
        return Recipe(**fields), value["trials"]

    def keep_chosen(self, recipe: Recipe, trials: list[dict[str, Any]]) -> None:
        """Write down what ``auto`` chose."""
        text = json.dumps({"recipe": asdict(recipe), "trials": trials})
        replace_text(self.folder / SEARCH, text, self.folder / f"{SEARCH}.part")

    def finish(self) -> None:
        """Throw the folder away: what came of the run is safe elsewhere."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _sweep(everything: Path, current: Path) -> None:
    """Throw away what nobody came back for in a week."""
    oldest = time.time() - KEPT_DAYS * 86_400
    for folder in everything.glob("*"):
        if folder != current and folder.stat().st_mtime < oldest:
            shutil.rmtree(folder, ignore_errors=True)
