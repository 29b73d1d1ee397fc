"""Model versions on disk: resolve a reference, add, promote, roll back.

``models/CURRENT`` holds one reference a line: the first is in use, those below are what was in use
before it, newest first; ``base`` is whatever ``model.base`` names. A version's folder never changes
once it has its name. A record whose ``format`` is later than `RECORD_FORMAT` is refused, and so is never overwritten.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from retrieval.durable import file_sha256, replace_text, sync
from retrieval.errors import ModelError
from retrieval.workspace import Workspace, home_expanded

__all__ = [
    "Fusion",
    "ModelVersion",
    "ResolvedModel",
    "abandoned",
    "add_version",
    "changing_models",
    "current_reference",
    "find_version",
    "history",
    "list_versions",
    "previous_reference",
    "remember_base_fusion",
    "remove_staging",
    "remove_version",
    "resolve",
    "roll_back",
    "set_current",
    "staging_folder",
    "tuned_fusion",
    "verify_version",
]

TRAINING_RECORD = "training.json"
EVALUATION_RECORD = "evaluation.json"
BASE_FUSION = "base.json"
CHECKSUMS = "checksums.json"
RECORD_FORMAT = 1
"""The format of the JSON records; one that names none is of this."""

_STAGING = ".staging-"
_VERSION_FOLDER = re.compile(r"v(\d{4,})")
_VERSION_NAME = re.compile(r"v0*(\d+)")
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A concrete reference (never ``current`` or ``base``) and where it loads from: a folder, or a Hub id."""

    reference: str
    location: str
    is_folder: bool

    @property
    def is_address(self) -> bool:
        """Whether it is an endpoint's address."""
        return is_address(self.reference)


@dataclass(frozen=True)
class ModelVersion:
    """One immutable folder of ``models/`` with its training record and its evaluation."""

    name: str
    path: Path
    training: dict[str, Any]
    evaluation: dict[str, Any]
    current: bool

    @property
    def verdict(self) -> str:
        """WIN, TIE or REGRESSION; "" where it was never judged."""
        return str(self.evaluation.get("verdict", ""))

    @property
    def ndcg_before(self) -> float | None:
        """NDCG@10 of the base model on the test split, dense."""
        return self.evaluation.get("ndcg_before")

    @property
    def ndcg_after(self) -> float | None:
        """NDCG@10 of this version on the test split, dense."""
        return self.evaluation.get("ndcg_after")

    @property
    def created(self) -> str:
        """When it was registered, ISO 8601."""
        return str(self.training.get("created", ""))


def is_address(reference: str) -> bool:
    """Whether a reference is the address of an endpoint."""
    return reference.startswith(("http://", "https://"))


def resolve(workspace: Workspace, reference: str) -> ResolvedModel:
    """Turn any model reference into a concrete one and the place it loads from.

    Raises:
        ModelError: nothing has that name; the message lists the forms a reference can take.
    """
    if reference == "current":
        reference = current_reference(workspace)
    if reference == "base":
        reference = workspace.model.base
    if is_address(reference):
        return ResolvedModel(reference, reference, False)
    if _VERSION_NAME.fullmatch(reference):
        version = find_version(workspace, reference)
        return ResolvedModel(version.name, str(version.path), True)
    if reference.startswith("package:"):
        return ResolvedModel(reference, str(_package_folder(reference)), True)
    folder = workspace.root / home_expanded(reference)
    if folder.is_dir():
        # A version by its folder is that version, with all that is recorded of it.
        if number := next((number for number, path in _version_folders(workspace) if path.samefile(folder)), 0):
            return ResolvedModel(f"v{number}", str(folder), True)
        if not any((folder / name).is_file() for name in ("modules.json", "config.json")):
            raise ModelError(f"{folder} holds no model: neither modules.json nor config.json is in it")
        return ResolvedModel(reference, str(folder), True)
    if _HUB_ID.fullmatch(reference) and not reference.startswith("."):
        return ResolvedModel(reference, reference, False)
    raise ModelError(
        f"unknown model reference {reference!r}, and no folder has that name; use a Hub id (BAAI/bge-base-en-v1.5), a "
        "folder, package:NAME/FOLDER, a version (v1), current or base, which model.base in shoptalk.toml names"
    )


def current_reference(workspace: Workspace) -> str:
    """The concrete reference of the model in use: ``model.endpoint``, else a version such as ``v3``, or the base's."""
    return workspace.model.endpoint or history(workspace)[0]


def history(workspace: Workspace) -> list[str]:
    """The models that were in use, newest first: the one in use, then those before it, the base model last.

    Raises:
        ModelError: ``models/CURRENT`` cannot be read.
    """
    file = workspace.models_dir / "CURRENT"
    try:
        lines = file.read_text(encoding="utf-8").split("\n")
    except FileNotFoundError:
        lines = []
    except ValueError:
        raise ModelError(f"{file} is damaged; write the reference of the model to use into it, such as v1") from None
    named = [line.strip() for line in lines if line.strip()]
    kept = [workspace.model.base if reference == "base" else reference for reference in named]
    # Two that stand next to each other, as when a version between them was thrown away, are one to roll back from.
    return [reference for reference, _ in groupby([*kept, workspace.model.base])]


def list_versions(workspace: Workspace) -> list[ModelVersion]:
    """Return the registered versions, oldest first."""
    return [_read_version(workspace, number, path) for number, path in _version_folders(workspace)]


def find_version(workspace: Workspace, name: str) -> ModelVersion:
    """Return the version called ``name`` (``v3`` and ``v0003`` are the same).

    Raises:
        ModelError: there is none; the message lists those there are.
    """
    match = _VERSION_NAME.fullmatch(name)
    folders = dict(_version_folders(workspace))
    if match is None or int(match.group(1)) not in folders:
        known = ", ".join(f"v{number}" for number in folders) or "none yet: `shoptalk tune` makes one"
        remedy = "; it is in use: restore it, or use another model: `shoptalk models promote base`"
        raise ModelError(f"no model version {name!r}; known: {known}{remedy if name == history(workspace)[0] else ''}")
    number = int(match.group(1))
    return _read_version(workspace, number, folders[number])


def staging_folder(workspace: Workspace) -> Path:
    """Make and return an empty folder in which a version can be put together before `add_version`.

    What a killed process left of its own is thrown away.
    """
    workspace.models_dir.mkdir(parents=True, exist_ok=True)
    _sweep(workspace)
    folder = _own_name(workspace.models_dir)
    folder.mkdir()
    return folder


def abandoned(workspace: Workspace) -> list[Path]:
    """What killed processes left in ``models/``; the next one that adds or promotes a version sweeps it."""
    left = []
    for path in sorted(workspace.models_dir.glob(f"{_STAGING}*")):
        owner = path.name.split("-")[1]
        if owner.isdigit() and not _alive(int(owner)):
            left.append(path)
    return left


@contextmanager
def changing_models(workspace: Workspace) -> Iterator[None]:
    """Be the one process that changes which model is in use, for the length of the block.

    Raises:
        ModelError: another process is, or nothing can be written there.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(workspace.models_dir / "LOCK", timeout=0)
    try:
        workspace.models_dir.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise ModelError("another process is putting a model to use; wait for it, then try again") from None
    except OSError as error:
        reason = error.strerror or error
        raise ModelError(f"{workspace.models_dir} cannot be written to ({reason}); make it writable") from None
    try:
        _sweep(workspace)
        yield
    finally:
        lock.release()


def add_version(workspace: Workspace, staged: Path) -> ModelVersion:
    """Give the finished folder ``staged`` the next version number; after this it never changes.

    The size and sha256 of each of its files are written beside them, for `verify_version`.
    """
    files = {
        path.relative_to(staged).as_posix(): (path.stat().st_size, file_sha256(path))
        for path in sorted(staged.rglob("*"))
        if path.is_file()
    }
    (staged / CHECKSUMS).write_text(json.dumps({"format": RECORD_FORMAT, "files": files}, indent=2) + "\n")
    _sync_folder(staged)
    taken = [number for number, _ in _version_folders(workspace)]
    number = max(taken, default=0) + 1
    while True:
        target = workspace.models_dir / f"v{number:04d}"
        try:
            staged.rename(target)
            break
        except OSError:
            if not target.exists():
                raise
            number += 1
    sync(workspace.models_dir)
    return _read_version(workspace, number, target)


def verify_version(workspace: Workspace, name: str) -> None:
    """Compare every file of a version with its sha256 as it was registered; reads everything.

    What is no version (a Hub id, a folder) has no checksums and passes.

    Raises:
        ModelError: there is no such version, or a file of it is missing or damaged; the message names it.
    """
    if not _VERSION_NAME.fullmatch(name):
        return
    folder = find_version(workspace, name).path
    for file, (size, digest) in _read_json(folder / CHECKSUMS).get("files", {}).items():
        path = folder / file
        if not path.is_file():
            state = "missing"
        elif path.stat().st_size != size or file_sha256(path) != digest:
            state = "damaged: its checksum is wrong"
        else:
            continue
        raise ModelError(f"{path} is {state}; restore it, or use another model: `shoptalk models promote base`")


def set_current(workspace: Workspace, reference: str) -> None:
    """Put ``reference`` (a version, or the base model) to use for all that follows."""
    concrete = resolve(workspace, reference).reference
    _write_history(workspace, [concrete, *(line for line in history(workspace) if line != concrete)])


def previous_reference(workspace: Workspace) -> str:
    """The concrete reference of the model that was in use before the current one; those that are gone are passed over.

    Raises:
        ModelError: nothing was in use before, or nothing of it is left.
    """
    used = history(workspace)
    problem = f"nothing to roll back to: {used[0]} is the first model this workspace used"
    for reference in used[1:]:
        try:
            resolve(workspace, reference)
        except ModelError as error:
            problem = str(error)
        else:
            return reference
    raise ModelError(problem)


def roll_back(workspace: Workspace) -> str:
    """Return to what was in use before; return its reference.

    Raises:
        ModelError: nothing was in use before.
    """
    reference = previous_reference(workspace)
    used = history(workspace)
    _write_history(workspace, used[used.index(reference, 1) :])
    return reference


def remove_staging(folder: Path) -> None:
    """Throw away a folder made by `staging_folder`."""
    shutil.rmtree(folder, ignore_errors=True)


def remove_version(workspace: Workspace, version: ModelVersion) -> None:
    """Throw a version away, and its name out of what was in use before; the caller is `changing_models`.

    A kill leaves it whole, or no version but a leftover that is swept.
    """
    used = history(workspace)
    if version.name in used:
        _write_history(workspace, [line for line in used if line != version.name])
    leftover = _own_name(workspace.models_dir)
    version.path.rename(leftover)
    sync(workspace.models_dir)
    remove_staging(leftover)


def _own_name(parent: Path) -> Path:
    """A new name in ``parent`` that shows whose it is."""
    return parent / f"{_STAGING}{os.getpid()}-{uuid.uuid4().hex[:8]}"


def _sweep(workspace: Workspace) -> None:
    for path in abandoned(workspace):
        if path.is_dir():
            remove_staging(path)
        else:
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Fusion:
    """What of a model's search was chosen on dev questions: BM25's weight, None where none was, and headings' share."""

    lexical_weight: float | None = None
    heading_share: float = 0.0


def tuned_fusion(workspace: Workspace, reference: str) -> Fusion:
    """What was chosen on the dev split for this model."""
    concrete = resolve(workspace, reference).reference
    if _VERSION_NAME.fullmatch(concrete):
        record = find_version(workspace, concrete).training
    else:
        record = _read_json(workspace.models_dir / BASE_FUSION).get(concrete, {})
        if record.get("by_people") is False:  # earlier versions of Shoptalk kept what mined questions chose
            record = {}
    weight = record.get("lexical_weight")
    return Fusion(None if weight is None else float(weight), float(record.get("heading_share", 0)))


def remember_base_fusion(workspace: Workspace, reference: str, fusion: Fusion) -> None:
    """Keep what people's dev questions chose for an untuned model."""
    workspace.models_dir.mkdir(parents=True, exist_ok=True)
    file = workspace.models_dir / BASE_FUSION
    text = json.dumps({**_read_json(file), reference: asdict(fusion)}, indent=2) + "\n"
    replace_text(file, text, _own_name(workspace.models_dir))


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass  # somebody else's, and alive
    return True


def _write_history(workspace: Workspace, lines: list[str]) -> None:
    workspace.models_dir.mkdir(parents=True, exist_ok=True)
    # Not what model.base says today, which would stay in use when the setting has changed.
    text = "\n".join("base" if line == workspace.model.base else line for line in lines) + "\n"
    replace_text(workspace.models_dir / "CURRENT", text, _own_name(workspace.models_dir))


def _version_folders(workspace: Workspace) -> list[tuple[int, Path]]:
    if not workspace.models_dir.is_dir():
        return []
    found = [
        (int(match.group(1)), path)
        for path in workspace.models_dir.iterdir()
        if (match := _VERSION_FOLDER.fullmatch(path.name)) and path.is_dir()
    ]
    return sorted(found)


def _read_version(workspace: Workspace, number: int, path: Path) -> ModelVersion:
    name = f"v{number}"
    return ModelVersion(
        name=name,
        path=path,
        training=_read_json(path / TRAINING_RECORD),
        evaluation=_read_json(path / EVALUATION_RECORD),
        current=current_reference(workspace) == name,
    )


def _read_json(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (ValueError, OSError) as error:
        raise ModelError(f"{file} cannot be read ({error}); restore it, or remove that version") from None
    if not isinstance(value, dict):
        raise ModelError(f"{file} must hold a JSON object; restore it, or remove that version")
    written = value.get("format", RECORD_FORMAT)
    if not isinstance(written, int) or written > RECORD_FORMAT:
        raise ModelError(
            f"{file} is of format {written}, this version of Shoptalk knows {RECORD_FORMAT}; update Shoptalk"
        )
    return value


def _package_folder(reference: str) -> Path:
    name, _, inside = reference.removeprefix("package:").partition("/")
    try:
        spec = find_spec(name) if re.fullmatch(r"\w+", name) else None
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.submodule_search_locations:
        raise ModelError(f"{reference}: no Python package {name!r} is installed here; `pip install` it first")
    folder = Path(next(iter(spec.submodule_search_locations))) / inside
    if not folder.is_dir():
        raise ModelError(f"{reference}: the package {name!r} has no folder {inside!r}")
    return folder


def _sync_folder(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            sync(path)
    sync(folder)
