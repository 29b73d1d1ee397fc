"""A real terminal, in tmux: keys go in, and what a person would see comes out."""

from __future__ import annotations

import os
import select
import shlex
import subprocess
import time
from pathlib import Path

PATIENCE = 60.0
PROMPT = "\n>\n"


class Terminal:
    """A window of its own tmux server that runs ``command``, then says "left with CODE"; a context manager.

    ``folder`` must have a short path: it holds the server's socket.
    """

    def __init__(self, folder: Path, command: list[str], width: int = 80, height: int = 24, after: str = "") -> None:
        self._tmux = ["tmux", "-S", str(folder / "s"), "-f", "/dev/null"]
        self._pipe = folder / "output"
        os.mkfifo(self._pipe)
        # The reader must be there before the writer, or opening would wait.
        self._output = os.open(self._pipe, os.O_RDONLY | os.O_NONBLOCK)
        self.raw = b""
        # The window waits for a line, so that nothing is written before it is listened to.
        script = f"read go; {shlex.join(command)} {after}; echo left with $?; exec cat"
        self._run("new-session", "-d", "-x", str(width), "-y", str(height), script)
        self._run("pipe-pane", "-O", f"exec cat > {shlex.quote(str(self._pipe))}")
        self.keys("go", "Enter")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        self._run("kill-server")
        os.close(self._output)

    def keys(self, *keys: str) -> None:
        """Press keys, by tmux's names (``Enter``, ``C-c``, ``M-Enter``); other words are typed."""
        self._run("send-keys", *keys)

    def ask(self, question: str) -> None:
        """Type a question and press Enter."""
        self._run("send-keys", "-l", question)
        self.keys("Enter")

    def screen(self, history: int = 0) -> str:
        """What can be seen, and so many lines that have scrolled away above it."""
        return self._run("capture-pane", "-p", "-S", str(-history)).stdout

    def wait_for(self, *words: str, after: str = "") -> str:
        """The screen, once all of ``words`` stand on it (in and below the last ``after``)."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = self.screen(history=200)
            below = seen[seen.rindex(after) :] if after and after in seen else seen
            if after in seen and all(word in below for word in words):
                return seen
            left = deadline - time.monotonic()
            assert left > 0, f"{words} did not appear in:\n{seen}"
            select.select([self._output], [], [], left)
            self._drain()

    def wait_prompt(self, after: str = "") -> None:
        """Return once a prompt waits for a question."""
        self.wait_for(PROMPT, after=after)

    def processes(self) -> list[int]:
        """The process ids of what runs in the window, below its shell."""
        shell = self._run("list-panes", "-F", "#{pane_pid}").stdout.strip()
        children = Path(f"/proc/{shell}/task/{shell}/children").read_text(encoding="ascii")
        return [int(child) for child in children.split()]

    def _drain(self) -> None:
        try:
            self.raw += os.read(self._output, 1 << 20)
        except BlockingIOError:
            return

    def _run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*self._tmux, *arguments], capture_output=True, text=True, check=True)
