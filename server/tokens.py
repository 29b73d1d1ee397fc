"""The workspace's own bearer tokens: who was given one, what for and until when.

Only the sha256 of a token is kept. A token is 256 random bits, so there is nothing to guess and nothing a
slow hash would add. The file is hidden, so that no corpus takes it for a document.
"""

from __future__ import annotations

import fcntl
import hmac
import os
import re
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import Literal, get_args

from pydantic import AwareDatetime, BaseModel, ConfigDict, TypeAdapter, ValidationError

from retrieval.durable import replace_text
from retrieval.errors import SettingsError
from retrieval.workspace import Workspace

__all__ = ["SCOPES", "Scope", "StoredToken", "TokenFile"]

Scope = Literal["search", "reindex"]
SCOPES: tuple[Scope, ...] = get_args(Scope)

_PREFIX = "shoptalk_"  # so that scanners of leaked secrets can tell one
_LONGEST_SECONDS = 100 * 365.25 * 86_400
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")


class StoredToken(BaseModel):
    """What is known of a token that was given out. ``expires`` unset: never."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    sha256: str
    scopes: tuple[Scope, ...]
    created: AwareDatetime
    expires: AwareDatetime | None = None

    @property
    def expired(self) -> bool:
        """Whether its time is over."""
        return self.expires is not None and self.expires <= datetime.now(UTC)


_TOKENS = TypeAdapter(tuple[StoredToken, ...])


class TokenFile:
    """The tokens of a workspace, in ``.tokens.json`` (mode 0600). Other processes' changes are seen at once."""

    def __init__(self, workspace: Workspace) -> None:
        self._path = workspace.root / ".tokens.json"
        self._stamp: tuple[int, ...] | None = None
        self._tokens: tuple[StoredToken, ...] = ()

    def exists(self) -> bool:
        """Whether a token was ever added; a server then asks for one, even when all have been revoked."""
        return self._path.exists()

    def tokens(self) -> tuple[StoredToken, ...]:
        """All tokens, expired ones included.

        Raises:
            SettingsError: the file cannot be read.
        """
        try:
            status = os.stat(self._path)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                self._tokens, self._stamp = _TOKENS.validate_json(self._path.read_bytes()), stamp
        except FileNotFoundError:
            self._tokens, self._stamp = (), None
        except (OSError, ValidationError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not what Shoptalk wrote"
            raise SettingsError(
                f"{self._path} cannot be read: {reason}; restore it, or delete it and add the tokens anew"
            ) from None
        return self._tokens

    def find(self, token: str) -> StoredToken | None:
        """The entry of ``token`` if it is known and its time is not over."""
        digest = sha256(token.encode("utf-8", "surrogateescape")).hexdigest()
        found = None
        for entry in self.tokens():  # all of them, each in constant time: how long it takes tells nothing
            if hmac.compare_digest(entry.sha256, digest):
                found = entry
        return None if found is None or found.expired else found

    def add(self, name: str, scopes: Sequence[Scope], seconds: float | None = None) -> str:
        """Add a token, good for ``seconds`` or for ever, and return it; it cannot be told again.

        Raises:
            SettingsError: the name is taken or will not do, or the file cannot be read.
        """
        if not _NAME.fullmatch(name):
            raise SettingsError(f"token name {name!r} must be letters, digits and . _ @ -, at most 64")
        if seconds is not None and seconds > _LONGEST_SECONDS:
            raise SettingsError("a token is good for 100 years at most; leave --expires out for one without an end")
        token = _PREFIX + secrets.token_urlsafe(32)
        now = datetime.now(UTC).replace(microsecond=0)
        entry = StoredToken(
            name=name,
            sha256=sha256(token.encode()).hexdigest(),
            scopes=tuple(scope for scope in SCOPES if scope in scopes),
            created=now,
            expires=None if seconds is None else now + timedelta(seconds=seconds),
        )
        with self._changing() as tokens:
            if any(known.name == name for known in tokens):
                raise SettingsError(f"there is a token {name!r} already; revoke it first, or take another name")
            tokens.append(entry)
        return token

    def revoke(self, name: str) -> None:
        """Remove the token called ``name``; servers that run refuse it from now on.

        Raises:
            SettingsError: there is no such token, or the file cannot be read.
        """
        with self._changing() as tokens:
            kept = [token for token in tokens if token.name != name]
            if len(kept) == len(tokens):
                raise SettingsError(f"there is no token {name!r}; `shoptalk tokens list` shows them")
            tokens[:] = kept

    @contextmanager
    def _changing(self) -> Iterator[list[StoredToken]]:
        """Yield the tokens for changing and write what becomes of them, while no other process does."""
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            tokens = list(self.tokens())
            yield tokens
            _write_private(self._path, _TOKENS.dump_json(tuple(tokens), indent=2).decode() + "\n")
        finally:
            os.close(folder)


def _write_private(path: Path, text: str) -> None:
    """Replace ``path`` by a file that only its owner can read, at no instant otherwise."""
    temporary = path.with_suffix(".new")
    temporary.unlink(missing_ok=True)
    os.close(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
    replace_text(path, text, temporary)
