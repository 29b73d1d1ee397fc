"""Which model versions nothing needs any more, and throwing those away."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from retrieval.errors import ModelError
from retrieval.generation import MANIFEST, generation_folders
from retrieval.models import (
    ModelVersion,
    changing_models,
    current_reference,
    history,
    list_versions,
    previous_reference,
    remove_version,
    resolve,
)
from retrieval.stores import open_store
from retrieval.workspace import Workspace

__all__ = ["Pruning", "prune", "prune_plan"]


@dataclass(frozen=True)
class Pruning:
    """The versions that may go, with what each takes on disk, and why each of the others stays."""

    going: list[tuple[ModelVersion, int]]
    staying: dict[str, str]

    @property
    def freed(self) -> int:
        """Bytes."""
        return sum(size for _, size in self.going)


def prune_plan(workspace: Workspace, keep: int) -> Pruning:
    """Say which versions may go. The newest ``keep`` (at least 1) stay, and all that something leads back to.

    The newest stays even so because a version's number is never given to another: what names v7, in a
    record or a manifest, must go on meaning that one.
    """
    versions = list_versions(workspace)
    reasons = {version.name: f"one of the newest {keep}" for version in versions[-max(1, keep) :]}
    reasons |= _in_use(workspace)
    going = [(version, _size(version)) for version in versions if version.name not in reasons]
    return Pruning(going, {version.name: reasons[version.name] for version in versions if version.name in reasons})


def prune(workspace: Workspace, keep: int, parting: Callable[[ModelVersion], None] | None = None) -> Pruning:
    """Throw away what `prune_plan` says may go; a kill leaves each version whole or gone.

    ``parting`` is given each version before it goes.

    Raises:
        ModelError: another process is putting a model to use.
        StoreError: the database that holds the indexes does not answer.
    """
    with changing_models(workspace):
        plan = prune_plan(workspace, keep)
        for version, _ in plan.going:
            if parting:
                parting(version)
            remove_version(workspace, version)
    return plan


def _in_use(workspace: Workspace) -> dict[str, str]:
    """Why each reference that something needs is needed; the strongest reason stands."""
    needed: dict[str, str] = {}
    for folder in sorted(path for path in (workspace.root / "indexes").glob("*") if path.is_dir()):
        for generation in generation_folders(folder):
            try:
                # Not opened: one of another format, or damaged and yet to be mended, needs its model as well.
                reference = json.loads((generation / MANIFEST).read_text(encoding="utf-8"))["reference"]
            except (OSError, ValueError, KeyError, TypeError):
                continue  # names no model, so it can be searched with none
            needed[str(reference)] = f"index {folder.name}/{generation.name}"
    if workspace.store.kind != "local":  # what is live in a database another machine may have indexed
        for corpus in workspace.corpora:
            store = open_store(workspace, corpus)
            if store.live():
                facts = store.open().facts
                needed[facts.reference] = f"index {corpus}/{facts.name}"
    # A reference that leads nowhere names no version.
    with suppress(ModelError):
        needed[resolve(workspace, "base").reference] = "model.base"
    with suppress(ModelError):
        needed[previous_reference(workspace)] = "in use before: rollback returns to it"
    used = history(workspace)
    needed[used[0]] = "in use"
    needed[current_reference(workspace)] = "in use"
    return needed


def _size(version: ModelVersion) -> int:
    return sum(path.stat().st_size for path in version.path.rglob("*") if path.is_file())
