"""Fairness between callers: nobody's burst of writes takes every connection of a process from everybody else."""

import asyncio
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Any
from uuid import UUID
from weakref import WeakValueDictionary


class Turns:
    """Lets each caller run so many writes at once; their others wait in memory, and hold nothing."""

    def __init__(self, at_once: int) -> None:
        self.at_once = at_once
        self.callers: WeakValueDictionary[UUID, asyncio.Semaphore] = WeakValueDictionary()

    def of(self, caller: UUID | None) -> AbstractAsyncContextManager[Any]:
        """What to hold while a write of this caller runs; who is nobody waits for nobody."""
        if caller is None:
            return nullcontext()
        turn = self.callers.get(caller)
        if turn is None:
            # Whoever waits, or runs, keeps it alive.
            turn = self.callers[caller] = asyncio.Semaphore(self.at_once)
        return turn
