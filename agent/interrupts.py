"""Ctrl-C as a person means it: what is under way stops, the program does not."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["Stopped", "stoppable"]

_T = TypeVar("_T")


class Stopped(Exception):
    """Ctrl-C, or another signal that was to stop the work."""


async def stoppable(work: Coroutine[Any, Any, _T], *signals: signal.Signals) -> _T:
    """``work``, which ``signals`` cancel: by default Ctrl-C.

    Raises:
        Stopped: it did.
    """
    task = asyncio.create_task(work)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = task.cancel() or stopped

    loop = asyncio.get_running_loop()
    handlers = {number: signal.getsignal(number) for number in signals or (signal.SIGINT,)}
    for number in handlers:
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if stopped:
            raise Stopped from None
        raise
    finally:
        for number, before in handlers.items():
            loop.remove_signal_handler(number)
            signal.signal(number, before)
