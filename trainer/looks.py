"""Which questions have judged a version: a test that is looked at twice proves less each time.

The first look is tune's own, in the version's ``evaluation.json``. Version folders never change, so the
looks after it stand beside them, in ``models/looks.jsonl``, one JSON object a line; there too is the first look of a
version that is thrown away.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Any

from retrieval.durable import file_sha256
from retrieval.errors import GateRefused, ModelError
from retrieval.models import CHECKSUMS, ModelVersion, list_versions
from retrieval.workspace import Workspace
from trainer.questions import MINED_EVIDENCE, Question, said

__all__ = [
    "LOOKS",
    "Look",
    "earlier_versions",
    "judged_by",
    "keep_look",
    "looks_at",
    "mark",
    "record_look",
    "refuse_second_look",
]

LOOKS = "looks.jsonl"
HALF = 16
"""Hex digits of a mark that stand for what is asked; as many stand for the answers."""


@dataclass(frozen=True, slots=True)
class Look:
    """One judging of a version: when, by which command, the marks of the test questions asked, and NDCG@10 by mode.

    ``found`` is empty for tune's own look, whose figures are in ``evaluation.json``; ``chose`` are the marks of the dev
    questions, by which that version was made what it is. ``mined`` questions are no person's: one of a person's that is
    worded alike is another, unless it has the same answers.
    """

    version: str
    content: str
    when: str
    command: str
    questions: tuple[str, ...]
    found: dict[str, float] = field(default_factory=dict)
    chose: tuple[str, ...] = ()
    mined: bool = False

    def seen(self, marks: Iterable[str], asked: Iterable[str]) -> int:
        """How many of ``asked`` are among the ``marks`` of this look.

        Who labels a question anew has seen all the same what the version makes of it, so its answers do not count.
        """
        length = None if self.mined else HALF
        known = {mark[:length] for mark in marks}
        return sum(mark[:length] in known for mark in asked)


def mark(question: Question) -> str:
    """Hex digits that stand for what a question asks, then as many (`HALF`) for its answers, whatever its id."""
    answers = json.dumps(sorted(question.relevant.items()))
    return "".join(hashlib.sha256(part.encode()).hexdigest()[:HALF] for part in (said(question.text), answers))


def looks_at(workspace: Workspace, version: ModelVersion) -> list[Look]:
    """Every recorded look at a version, tune's own first.

    Raises:
        ModelError: ``models/looks.jsonl`` cannot be read; file and line are named.
    """
    # A number may come again once its version is gone; its content does not.
    name = version.name, _content(version)
    own = _own_look(version)
    kept = [look for look in _kept(workspace) if (look.version, look.content) == name and look != own]
    return [*([own] if own else []), *kept]


def refuse_second_look(workspace: Workspace, version: ModelVersion, questions: Sequence[Question]) -> None:
    """Refuse to judge a version by questions of which some have judged it, or made its choices, before.

    Raises:
        GateRefused: some have; the message says how many, when, and by which command.
    """
    asked = [mark(question) for question in questions]
    for look in looks_at(workspace, version):
        if again := look.seen((*look.questions, *look.chose), asked):
            raise GateRefused(
                f"{again} of these {len(questions)} questions have judged {version.name} or made its choices before "
                f"({look.command}, {look.when}), so they prove nothing new; ask others, or see that result with "
                f"`shoptalk models show {version.name}`, or look all the same with --look-again, which is recorded"
            )


def record_look(
    workspace: Workspace, version: ModelVersion, questions: Sequence[Question], command: str, found: dict[str, float]
) -> Look:
    """Append a look at a version to the record, with the NDCG@10 it found, by mode."""
    now = datetime.now(UTC).isoformat(timespec="seconds")
    look = Look(version.name, _content(version), now, command, tuple(mark(question) for question in questions), found)
    _append(workspace, look)
    return look


def keep_look(workspace: Workspace, version: ModelVersion) -> None:
    """Record tune's own look at a version that is about to be thrown away: its questions were asked all the same."""
    if look := _own_look(version):
        _append(workspace, look)


def earlier_versions(workspace: Workspace, questions: Collection[Question]) -> dict[str, int]:
    """How many of these questions have judged which versions already, those thrown away included; oldest first.

    Each is another chance to pick what happens to suit the questions, so a report tells how many there were.
    """
    asked = [mark(question) for question in questions]
    looks = [*_kept(workspace), *filter(None, map(_own_look, list_versions(workspace)))]
    judged: dict[str, int] = {}
    for look in looks:
        if seen := look.seen(look.questions, asked):
            judged[look.version] = max(seen, judged.get(look.version, 0))
    return {name: judged[name] for name in sorted(judged, key=lambda name: (len(name), name))}


def judged_by(version: ModelVersion) -> dict[str, dict[str, Any]]:
    """What `tune` found of each test question that judged a version, by the question's mark."""
    return {str(item["mark"]): item for item in version.evaluation.get("questions", ()) if "mark" in item}


def _own_look(version: ModelVersion) -> Look | None:
    """The look that `tune` had before it registered the version, if it judged it at all."""
    if not (judged := judged_by(version)):
        return None
    chose = tuple(version.evaluation.get("dev_marks", ()))
    mined = version.evaluation.get("evidence") == MINED_EVIDENCE
    return Look(version.name, _content(version), version.created, "tune", tuple(judged), chose=chose, mined=mined)


def _content(version: ModelVersion) -> str:
    file = version.path / CHECKSUMS
    return file_sha256(file)[:16] if file.is_file() else ""


def _append(workspace: Workspace, look: Look) -> None:
    line = (json.dumps(asdict(look)) + "\n").encode()
    path = workspace.models_dir / LOOKS
    # Without a buffer, which would be written once more when the file is closed.
    with path.open("ab", buffering=0) as file:
        before = file.tell()
        try:
            if file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            os.fsync(file.fileno())
        except OSError as error:
            os.truncate(path, before)
            raise ModelError(f"{path} cannot be written ({error.strerror}), so nothing counts as looked at") from error


def _kept(workspace: Workspace) -> list[Look]:
    file = workspace.models_dir / LOOKS
    try:
        lines = file.read_text(encoding="utf-8", errors="replace").split("\n")
    except FileNotFoundError:
        return []
    looks = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            value: dict[str, Any] = json.loads(line)
            looks.append(Look(**{**value, **{name: tuple(value.get(name, ())) for name in ("questions", "chose")}}))
        except (ValueError, KeyError, TypeError):
            # A kill in the middle of an append leaves half a line, which another append may have continued.
            raise ModelError(f"{file}:{number}: not a record of a look; remove that line") from None
    return looks
