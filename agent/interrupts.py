"""Ctrl-C as a person means it: what is under way stops, the program does not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Stopped", "stoppable"]

_T = TypeVar("_T")


class Stopped(Exception):
    """Ctrl-C."""


async def stoppable(work: Coroutine[Any, Any, _T]) -> _T:
    """``work``, which Ctrl-C cancels.

    Raises:
        Stopped: it did.
    """
    task = asyncio.create_task(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = task.cancel() or stopped

    loop = asyncio.get_running_loop()
    before = signal.getsignal(signal.SIGINT)
    loop.add_signal_handler(signal.SIGINT, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped:
            raise Stopped from None
        raise
    finally:
        loop.remove_signal_handler(signal.SIGINT)
        signal.signal(signal.SIGINT, before)
