"""A replica: reads go to a server that repeats what the first one does, and to the first when that is away or behind."""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from typing import Any

import asyncpg
from prometheus_client import Counter

from lms_core.db import Database
from lms_core.errors import Unavailable

log = logging.getLogger("lms.database")

ELSEWHERE_READS = Counter("lms_replica_reads_elsewhere_total", "Reads that the replica could not answer")
REPLAYED = "SELECT CASE WHEN pg_is_in_recovery() THEN pg_wal_lsn_diff(pg_last_wal_replay_lsn(), '0/0')::bigint END"
MOST_BEHIND_SECONDS = 10.0
"""A replica that knows less is treated as away: it may have been cut off, or have become a server of its own."""
ELSEWHERE = (
    OSError,
    TimeoutError,
    Unavailable,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    # It had to cancel the statement to keep up, is full, or is stopping.
    asyncpg.SerializationError,
    asyncpg.InsufficientResourcesError,
    asyncpg.OperatorInterventionError,
)


class Replica(Database):
    """A server that repeats what the first does, for reads that nothing is decided on; when it is away, the first does.

    Nobody can LISTEN there, so its watch only looks whether it is there and keeps up. Until it has looked, and in
    processes without a watch, it counts as away. With a pooler before the first server there may be one here, too.
    """

    def __init__(self, url: str, read_pool: int, first: Database) -> None:
        super().__init__(url, read_pool=read_pool)
        self.first, self.pooled = first, first.pooled
        self.away = True
        self.behind = MOST_BEHIND_SECONDS

    async def listen(self, connection: asyncpg.Connection) -> None:
        """There is nothing to hear; whether it keeps up is asked at once."""
        await self.ping(connection)

    async def ping(self, connection: asyncpg.Connection) -> None:
        """How far it is behind what the first server had written. Raises ConnectionError when that is too far."""
        replayed = await connection.fetchval(REPLAYED)
        if replayed is None:
            raise ConnectionError("LMS_DATABASE_READ_URL is no replica (pg_is_in_recovery() is false)")
        known = [at for at, position in self.first.positions if position > replayed]
        self.behind = time.monotonic() - known[0] if known else 0.0
        if self.behind >= MOST_BEHIND_SECONDS:
            raise ConnectionError(f"the replica is {self.behind:.0f} s behind")

    async def read(self, sql: str, arguments: Sequence[Any], plan_once: bool = False) -> list[asyncpg.Record]:
        """Run one read here, or on the first server when this one is away."""
        if not self.away:
            try:
                return await super().read(sql, arguments, plan_once)
            except asyncpg.QueryCanceledError:
                # It took too long; it would do so there, too.
                raise
            except ELSEWHERE as error:
                ELSEWHERE_READS.inc()
                log.warning("read from the first server instead", extra={"reason": repr(error)})
        return await self.first.read(sql, arguments, plan_once)
