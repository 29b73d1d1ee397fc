"""What is known of a model without loading it: ``models/fingerprints.json``.

A fingerprint is computed from the weights, which takes the whole engine and seconds. It is then
written down under a stamp of the model's files, so that indexing an unchanged corpus and asking for the status need
neither. The stamp covers the resolved folder, each file's name, size and times of modification and of
change, the bytes of the small files, the settings that bear on the vectors, and the versions of the
libraries. A record can only be believed where nothing hangs on it: whoever loads the model compares
(`remember`), and a record that was wrong is corrected with a warning.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import uuid
from dataclasses import asdict, dataclass
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from retrieval.models import ResolvedModel
from retrieval.workspace import Workspace

__all__ = ["Identity", "model_folder", "read_record", "recall", "remember", "tokenizer_file", "write_record"]

log = logging.getLogger(__name__)

RECORDS = "fingerprints.json"
KEPT_RECORDS = 64
SMALL_BYTES = 1 << 20
_LIBRARIES = ("sentence-transformers", "transformers", "tokenizers", "onnxruntime")


@dataclass(frozen=True, slots=True)
class Identity:
    """What an embedder is to an index.

    ``countable``: its tokenizer.json alone counts as the model does; ``gives_tokens``: see `embedders.Embedder`.
    """

    fingerprint: str
    dimension: int
    max_tokens: int
    countable: bool
    gives_tokens: bool


def recall(workspace: Workspace, resolved: ResolvedModel) -> Identity | None:
    """Return the identity written down for a model whose files are as they were then, or None."""
    stamp = _stamp(workspace, resolved)
    try:
        return Identity(**read_record(workspace, stamp)) if stamp else None
    except TypeError:
        return None  # a record of another version of Shoptalk, or none


def remember(workspace: Workspace, resolved: ResolvedModel, identity: Identity) -> None:
    """Write down the identity of a model that was just loaded."""
    stamp = _stamp(workspace, resolved)
    if not stamp:
        return
    known = recall(workspace, resolved)
    if known == identity:
        return
    if known is not None:
        log.warning(
            "model %s is not what %s said though its files look the same; the record is corrected",
            resolved.reference,
            workspace.models_dir / RECORDS,
        )
    write_record(workspace, stamp, asdict(identity))


def model_folder(resolved: ResolvedModel) -> Path | None:
    """The folder the model's files are in: its own, or its snapshot in the Hub's cache; None where there is none."""
    if resolved.is_folder:
        return Path(resolved.location)
    try:
        from huggingface_hub import try_to_load_from_cache
    except ImportError:
        return None
    for name in ("modules.json", "config.json"):
        found = try_to_load_from_cache(resolved.location, name)
        if isinstance(found, str):
            return Path(found).parent
    return None


def tokenizer_file(folder: Path) -> Path | None:
    """The ``tokenizer.json`` of a sentence-transformers folder: its own, or that of its first module."""
    candidates = [folder / "tokenizer.json"]
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        candidates.append(folder / modules[0]["path"] / "tokenizer.json")
    except (OSError, ValueError, LookupError, TypeError):
        pass  # no modules are listed; whatever else is wrong, loading the model will say
    return next((file for file in candidates if file.is_file()), None)


def read_record(workspace: Workspace, key: str) -> dict[str, Any]:
    """Return the record under ``key``, {} where there is none."""
    record = _read_all(workspace.models_dir / RECORDS).get(key)
    return record if isinstance(record, dict) else {}


def write_record(workspace: Workspace, key: str, record: dict[str, Any]) -> None:
    """Put ``record`` under ``key``, newest last; the oldest beyond 64 go. A reader sees the old file or the new.

    A server whose workspace may only be read, or whose disk is full, does without: a model is then looked at again, and
    an endpoint that does not say which model it serves is taken for another one if it answers the probe otherwise.
    """
    file = workspace.models_dir / RECORDS
    records = {name: value for name, value in _read_all(file).items() if name != key}
    records = dict([*records.items(), (key, record)][-KEPT_RECORDS:])
    # What a killed process leaves under such a name, the next change of the model sweeps (`models.abandoned`).
    temporary = file.with_name(f".staging-{os.getpid()}-{uuid.uuid4().hex[:8]}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
            os.replace(temporary, file)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        level = logging.INFO if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM) else logging.WARNING
        log.log(level, "%s is not written: %s", file, error.strerror)


def _read_all(file: Path) -> dict[str, Any]:
    try:
        records = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        log.warning("%s cannot be read (%s); it is written anew", file, error)
        return {}
    return records if isinstance(records, dict) else {}


def _stamp(workspace: Workspace, resolved: ResolvedModel) -> str:
    """The sha256 of everything a fingerprint can depend on short of reading the weights; "" for no local files."""
    folder = model_folder(resolved)
    if folder is None:
        return ""
    settings = workspace.model
    digest = sha256(
        json.dumps(
            [
                resolved.reference,
                str(folder.resolve()),
                [settings.backend, settings.query_prompt, settings.document_prompt, settings.trust_remote_code],
                [f"{name} {_version(name)}" for name in _LIBRARIES],
            ]
        ).encode()
    )
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if any(part.startswith(".") for part in relative.parts) or not path.is_file():
            continue
        status = path.stat()
        digest.update(f"\n{relative} {status.st_size} {status.st_mtime_ns} {status.st_ctime_ns} ".encode())
        if status.st_size <= SMALL_BYTES:
            digest.update(sha256(path.read_bytes()).digest())
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"
