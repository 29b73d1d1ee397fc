"""Saved conversations: one file each, whole at any instant, for its owner's eyes only."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from agent.answer import Answer, TurnDone, Usage
from agent.plain import one_line
from agent.transcript import Transcript
from retrieval.durable import replace_text
from retrieval.errors import ShoptalkError

__all__ = ["Exchange", "Session", "Sessions"]

FORMAT = 2
HISTORY_NAME = "history"


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and what came of it."""

    question: str
    answer: Answer


@dataclass(slots=True)
class Session:
    """A conversation as it is kept: what people saw, and what the API must see again to go on with it.

    ``prompt_version`` is that of the system prompt the last answer was given under; ``transcript`` is a saved one, {}
    while nothing was asked; ``lost`` are turns of questions that came to no answer.
    """

    id: str
    started: str
    model: str
    prompt_version: str = ""
    exchanges: list[Exchange] = field(default_factory=list)
    transcript: dict[str, Any] = field(default_factory=dict)
    lost: list[TurnDone] = field(default_factory=list)
    format: int = FORMAT

    @classmethod
    def new(cls, model: str) -> Session:
        """An empty conversation; its id tells when it was begun."""
        now = datetime.now(UTC)
        return cls(f"{now.astimezone():%Y%m%d-%H%M%S}-{secrets.token_hex(2)}", now.isoformat("T", "seconds"), model)

    @property
    def title(self) -> str:
        """The first question, in one short line."""
        return one_line(self.exchanges[0].question, 60) if self.exchanges else ""

    @property
    def usage(self) -> Usage:
        """The tokens of all turns."""
        return sum((one.usage for one in self._paid), Usage())

    @property
    def dollars(self) -> float | None:
        """What all turns cost; None where one's price is not known."""
        prices = [one.dollars for one in self._paid]
        return None if None in prices else sum(price for price in prices if price is not None)

    @property
    def unpriced(self) -> list[str]:
        """The models whose price is not known."""
        return sorted({one.model for one in self._paid if one.dollars is None})

    @property
    def _paid(self) -> list[Answer | TurnDone]:
        return [*(exchange.answer for exchange in self.exchanges), *self.lost]


class Sessions:
    """The folder that conversations are kept in. Only one process at a time goes on with the same one."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: Any = None

    @property
    def history_file(self) -> Path | None:
        """Where the questions typed in are remembered, for their owner only; None where nothing can be written."""
        file = self.folder / HISTORY_NAME
        try:
            self._make_folder()
            os.close(os.open(file, os.O_CREAT | os.O_WRONLY, 0o600))
        except OSError:
            return None
        return file

    def ids(self) -> list[str]:
        """All that are kept, the latest first."""
        return sorted((file.stem for file in self.folder.glob("*.json") if file.name[0] != "."), reverse=True)

    def save(self, session: Session) -> None:
        """Put the file of ``session`` in the place of its last one.

        Raises:
            ShoptalkError: it cannot be written.
        """
        file = self._file(session.id)
        temporary = file.with_name(f".{session.id}.tmp")
        try:
            self._make_folder()
            os.close(os.open(temporary, os.O_CREAT | os.O_WRONLY, 0o600))
            replace_text(file, json.dumps(asdict(session)), temporary)
        except OSError as error:
            raise self._unwritable(error) from error

    def load(self, part: str = "", passed_over: Callable[[str], None] = lambda reason: None) -> Session:
        """The conversation whose id holds ``part``; with "", the latest that is whole and that no other chat has open.

        What is held stays held where this fails. ``passed_over`` is told of each one that is broken.

        Raises:
            ShoptalkError: there is none, there are several, another chat has it open, or its file is broken.
        """
        fitting = [name for name in self.ids() if part in name]
        exact = [name for name in fitting if name == part] or fitting
        if not exact:
            known = f"none holds {part!r}; /resume lists them" if part else "begin one with `shoptalk chat`"
            raise ShoptalkError(f"no conversation to resume in {self.folder}: {known}")
        if part and len(exact) > 1:
            raise ShoptalkError(
                f"{part!r} fits {len(exact)} conversations: {', '.join(exact[:5])}; give more of the id"
            )
        taken = ""
        for name in exact:
            try:
                self.read(name)
            except ShoptalkError as error:
                if name == exact[-1] and not taken:
                    raise
                passed_over(str(error))
                continue
            if self.hold(name):
                return self.read(name)
            taken = taken or name
        raise ShoptalkError(f"the conversation {taken} is open in another chat; close that one first")

    def read(self, name: str) -> Session:
        """The conversation ``name``, without holding it.

        Raises:
            ShoptalkError: its file is missing or broken.
        """
        from pydantic import TypeAdapter

        file = self._file(name)
        try:
            value = json.loads(file.read_text(encoding="utf-8"))
            written = value["format"]
            if written == FORMAT:
                Transcript.from_dict(value["transcript"])
                # A copy goes on in its own file, whatever it was copied from.
                return TypeAdapter(Session).validate_python({**value, "id": name})
        except OSError as error:
            raise ShoptalkError(f"{file} cannot be read: {error.strerror}") from error
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ShoptalkError(f"{file} is not a conversation that was saved whole; remove it") from error
        raise ShoptalkError(
            f"{file} is of format {written}, this version reads {FORMAT}; use the version that wrote it"
        )

    def hold(self, name: str) -> bool:
        """Keep ``name`` from other processes until another is held or this process ends; False where one has it.

        Raises:
            ShoptalkError: the folder cannot be written.
        """
        from filelock import FileLock, Timeout

        lock = FileLock(self.folder / f".{name}.lock", mode=0o600)
        if self._lock is not None and self._lock.lock_file == lock.lock_file:
            return True
        try:
            self._make_folder()
            lock.acquire(blocking=False)
        except Timeout:
            return False
        except OSError as error:
            raise self._unwritable(error) from error
        self.release()
        self._lock = lock
        return True

    def release(self) -> None:
        """Let others have what is held."""
        if self._lock is not None:
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()
            self._lock = None

    def _unwritable(self, error: OSError) -> ShoptalkError:
        return ShoptalkError(f"{self.folder} cannot be written: {error.strerror}; this conversation is not kept")

    def _file(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def _make_folder(self) -> None:
        self.folder.mkdir(mode=0o700, exist_ok=True)
