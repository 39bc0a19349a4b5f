"""The Celery application: one task, which does one delivery. Nothing else goes through the broker.

A worker process makes one event loop and one context (with its pooled connections) on first use, and keeps them.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import sys
import time
from collections.abc import Sequence
from typing import Any
from uuid import UUID

from celery import Celery
from celery.signals import worker_process_init, worker_process_shutdown
from kombu.pools import producers

from lms_core import tracing
from lms_core.config import Settings
from lms_core.delivery import deliver
from lms_core.lifespan import running
from lms_core.logs import configure_logs
from lms_core.platform import Platform, load_platform
from lms_core.uow import Context, is_away

TASK = "lms.deliver"
QUEUE = "lms"
SOCKET_TIMEOUT_SECONDS = 5.0
AWAY_SECONDS = 60.0
AWAY_PAUSE_SECONDS = 0.3
PR_SET_PDEATHSIG = 1


def make_celery(settings: Settings) -> Celery:
    """A Celery application whose tasks survive killed children and a broker without memory."""
    celery = Celery("lms", broker=settings.redis_url)
    celery.conf.update(
        task_acks_late=True,
        task_reject_on_worker_lost=True,
        worker_prefetch_multiplier=1,
        task_default_queue=QUEUE,
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        task_time_limit=settings.task_seconds,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_transport_options={
            "visibility_timeout": settings.task_seconds * 2,
            "socket_connect_timeout": SOCKET_TIMEOUT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
        worker_hijack_root_logger=False,
        worker_send_task_events=False,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        broker_connection_timeout=SOCKET_TIMEOUT_SECONDS,
    )
    return celery


class CelerySender:
    """Publishes deliveries; used by the relay, from a thread."""

    def __init__(self, settings: Settings) -> None:
        self.celery = make_celery(settings)
        # A publisher never waits for an answer for long; a consumer's blocking pop must have no such limit.
        options = dict(self.celery.conf.broker_transport_options)
        self.celery.conf.broker_transport_options = {**options, "socket_timeout": SOCKET_TIMEOUT_SECONDS}

    def __call__(self, delivery_ids: Sequence[UUID]) -> None:
        """Publish; raises when the broker does not take it in time."""
        with self.celery.connection_for_write() as connection, producers[connection].acquire(block=True) as producer:
            for id in delivery_ids:
                self.celery.send_task(TASK, [str(id)], producer=producer, retry=False)


class Process:
    """What one worker process keeps between tasks."""

    def __init__(self, platform: Platform) -> None:
        self.platform = platform
        self.loop: asyncio.AbstractEventLoop | None = None
        self.context: Context | None = None
        self.lifespan: Any = None

    def deliver(self, delivery_id: UUID) -> None:
        """Do one delivery."""
        if self.loop is None:
            tracing.start("worker")
            self.loop = asyncio.new_event_loop()
            self.context = Context.create(self.platform)
            self.lifespan = running(self.context)
            self.loop.run_until_complete(self.lifespan.__aenter__())
        assert self.context is not None
        self.loop.run_until_complete(deliver_when_there(self.context, delivery_id))

    def close(self) -> None:
        """Give the connections back."""
        if self.loop is not None:
            self.loop.run_until_complete(self.lifespan.__aexit__(None, None, None))
            self.loop.close()
            self.loop = None
            tracing.stop()


async def deliver_when_there(context: Context, delivery_id: UUID) -> None:
    """Do one delivery as soon as the database answers.

    Between tasks nobody notices that pooled connections have died, so the first try after an outage may find only that.
    """
    deadline = time.monotonic() + AWAY_SECONDS
    while True:
        try:
            await deliver(context, delivery_id)
            return
        except Exception as error:
            if not is_away(error) or time.monotonic() > deadline:
                raise
            await asyncio.sleep(AWAY_PAUSE_SECONDS)


def die_with_parent(**_: Any) -> None:
    """A pool child whose parent was killed must not go on."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:
            os.kill(os.getpid(), signal.SIGKILL)


def limit_memory(megabytes: int) -> None:
    """A handler that wants more gets MemoryError, which counts as a failure, instead of all that the machine has."""
    limit = megabytes * 1024 * 1024
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (limit if hard == resource.RLIM_INFINITY else min(limit, hard), hard))


def run_worker(settings: Settings) -> None:
    """Start a worker and return when it was told to stop."""
    configure_logs(settings)
    platform = load_platform(settings)
    process = Process(platform)
    celery = make_celery(settings)

    def deliver_one(delivery_id: str) -> None:
        process.deliver(UUID(delivery_id))

    celery.task(deliver_one, name=TASK)
    worker_process_init.connect(die_with_parent, weak=False)
    worker_process_init.connect(lambda **_: limit_memory(settings.worker_memory_mb), weak=False)
    worker_process_shutdown.connect(lambda **_: process.close(), weak=False)
    celery.worker_main(
        [
            "worker",
            f"--concurrency={settings.worker_processes}",
            "--pool=prefork",
            "--without-gossip",
            "--without-mingle",
            "--without-heartbeat",
            f"--loglevel={settings.log_level}",
        ]
    )
