"""Settings: plugins.toml says which plugins run and how; the environment overrides it and holds the secrets."""

import os
import re
import tomllib
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from lms_core.errors import StartRefused
from lms_core.tracing import refuse_without_exporter

DEVELOPMENT_SECRET = "development-only-secret-development-only"
USUAL_SECRETS = "/run/secrets"
"""Where container engines put secrets: a file for each, named like its variable in small letters."""
FORMS = {
    "LMS_DATABASE_URL": "postgresql://user:password@host:5432/database",
    "LMS_DATABASE_DIRECT_URL": "postgresql://user:password@host:5432/database",
    "LMS_DATABASE_READ_URL": "postgresql://user:password@host:5432/database",
    "LMS_REDIS_URL": "redis://host:6379/0",
    "LMS_S3_ENDPOINT": "https://s3.example.org",
    "LMS_PUBLIC_URL": "https://lms.example.org",
    "LMS_API_PREFIX": "/api/v1",
    "LMS_SMTP_URL": "smtp://user:password@mail.example.org:587",
    "LMS_MAIL_FROM": "lms@example.org",
}
"""What to write instead, where a rule says less than an example."""
ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/\s?#@A-Z]+")


class Settings(BaseSettings):
    """The core's own settings, each read from `LMS_<NAME>`, or from a file of that name among the secrets."""

    model_config = SettingsConfigDict(env_prefix="LMS_", extra="ignore")

    env: Literal["development", "production"] = "development"
    debug: bool = False
    secret_key: str = DEVELOPMENT_SECRET
    database_url: str = Field(default="postgresql://postgres@127.0.0.1:5432/lms", pattern=r"^postgres(ql)?://")
    database_direct_url: str = Field(default="", pattern=r"^(postgres(ql)?://.*)?$")
    database_read_url: str = Field(default="", pattern=r"^(postgres(ql)?://.*)?$")
    redis_url: str = Field(default="redis://127.0.0.1:6379/0", pattern=r"^(rediss?|unix)://")
    s3_endpoint: str = Field(default="http://127.0.0.1:8333", pattern=r"^https?://")
    s3_public_endpoint: str = ""
    s3_region: str = "us-east-1"
    s3_access_key: str = ""
    s3_secret_key: str = ""
    api_prefix: str = Field(default="", pattern=r"^(/[A-Za-z0-9._-]+)*$")
    public_url: str = Field(default="http://127.0.0.1:8000", pattern=r"^https?://[^\s/?#]+(/[^\s?#]*)?$")
    metrics_token: str = ""
    metrics_port: int = Field(default=0, ge=0, le=65_535)
    admin_email: str = ""
    admin_password: str = ""
    internal_networks: str = "127.0.0.0/8,::1/128"
    trusted_proxies: str = "127.0.0.1"
    cors_origins: str = ""
    rate_limit: str | None = None
    smtp_url: str = Field(default="", pattern=r"^((smtps?|smtp\+plain)://([^/\s@]+@)?[^/\s@:]+(:\d{1,5})?/?)?$")
    mail_from: str = Field(default="", pattern=r"^([^@\s]+@[^@\s]+)?$")
    data: str = ".lms"
    plugins_file: str = "plugins.toml"
    database_pool: int = Field(default=10, ge=2, le=200)
    read_pool: int = Field(default=10, ge=1, le=200)
    worker_processes: int = Field(default=2, ge=1, le=64)
    worker_memory_mb: int = Field(default=1024, ge=512, le=1_048_576)
    task_seconds: int = Field(default=1_800, ge=10, le=86_400)
    log_level: str = "INFO"

    @property
    def production(self) -> bool:
        """Whether this is a deployment that real people depend on."""
        return self.env == "production"

    @property
    def direct_url(self) -> str:
        """PostgreSQL itself, for what does not go through a pooler of transactions: LISTEN, locks of sessions, DDL."""
        return self.database_direct_url or self.database_url

    @property
    def usual_rate_limit(self) -> str:
        """What `LMS_RATE_LIMIT` is when nobody sets it: off in development."""
        return "1200/minute" if self.production else ""


class PluginSettings(BaseModel):
    """One table of plugins.toml, as written, with what the environment says on top."""

    name: str
    enabled: bool
    values: dict[str, Any]


def load_settings() -> Settings:
    """The core's settings, or StartRefused with one sentence on the first thing that is wrong."""
    named = os.environ.get("LMS_SECRETS")
    secrets = Path(named or USUAL_SECRETS)
    if named and not secrets.is_dir():
        raise StartRefused(f"LMS_SECRETS names {named}, which is no folder; correct it.")
    try:
        settings = Settings(_secrets_dir=secrets if secrets.is_dir() else None)
    except ValidationError as error:
        first = error.errors()[0]
        name = "LMS_" + "_".join(str(part) for part in first["loc"]).upper()
        written = FORMS.get(name)
        reason = f"it has to look like {written}" if written else first["msg"]
        raise StartRefused(f"The setting {name} is not usable: {reason}.") from None
    if settings.smtp_url and not settings.mail_from:
        raise StartRefused("LMS_MAIL_FROM is missing; set it to the address from which LMS_SMTP_URL sends.")
    refuse_what_is_no_origin(settings.cors_origins)
    refuse_what_is_no_network("LMS_INTERNAL_NETWORKS", settings.internal_networks)
    if settings.trusted_proxies != "*":
        refuse_what_is_no_network("LMS_TRUSTED_PROXIES", settings.trusted_proxies)
    refuse_without_exporter()
    if settings.production:
        refuse_unsafe_production(settings)
    return settings


def refuse_what_is_no_network(name: str, networks: str) -> None:
    """Raise StartRefused for what is neither an address nor a network, such as a name, or a network with a host's bits."""
    for network in (one.strip() for one in networks.split(",") if one.strip()):
        try:
            ip_network(network)
        except ValueError as error:
            raise StartRefused(
                f"{name} has {network!r} ({error}); write addresses or networks like 10.0.0.0/8."
            ) from None


def refuse_what_is_no_origin(origins: str) -> None:
    """Raise StartRefused for what no browser will ever say where it comes from, such as an address with a path."""
    for origin in (one.strip() for one in origins.split(",")):
        if origin not in ("", "*") and not ORIGIN.fullmatch(origin):
            raise StartRefused(
                f"LMS_CORS_ORIGINS has {origin!r}, which is no origin; write it like https://front.example:8443, "
                "in small letters and without a slash at the end."
            )


def refuse_unsafe_production(settings: Settings) -> None:
    """Raise StartRefused for what must never be so in production."""
    if settings.secret_key == DEVELOPMENT_SECRET or len(settings.secret_key.encode()) < 32:
        raise StartRefused("LMS_SECRET_KEY is missing or shorter than 32 bytes; set it to a long random value.")
    if settings.debug:
        raise StartRefused("LMS_DEBUG is on, which shows internals to strangers; switch it off in production.")
    if "*" in settings.cors_origins:
        raise StartRefused("LMS_CORS_ORIGINS allows every origin with credentials; name the origins instead.")


def read_plugins_file(path: Path, environment: dict[str, str] | None = None) -> list[PluginSettings]:
    """The plugins named in plugins.toml, in the file's order, with `LMS_<PLUGIN>__<KEY>` applied.

    Raises StartRefused when the file is missing or malformed.
    """
    environment = dict(os.environ) if environment is None else environment
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StartRefused(
            f"There is no {path}; create it with one [plugins.<name>] table for each plugin, or set LMS_PLUGINS_FILE."
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartRefused(f"{path} is not valid TOML ({error}); correct it.") from None
    unknown = set(content) - {"plugins"}
    if unknown or not isinstance(content.get("plugins", {}), dict):
        raise StartRefused(
            f"{path} has the unknown table {sorted(unknown or {'plugins'})[0]!r}; only [plugins.*] is known."
        )
    found = []
    for name, table in content.get("plugins", {}).items():
        if not isinstance(table, dict) or not isinstance(table.get("enabled", True), bool):
            raise StartRefused(f"Plugin {name} in {path} needs a table with enabled = true or false; correct it.")
        values = {key: value for key, value in table.items() if key != "enabled"}
        values |= environment_values(name, environment)
        found.append(PluginSettings(name=name, enabled=table.get("enabled", True), values=values))
    return found


def environment_values(plugin: str, environment: dict[str, str]) -> dict[str, str]:
    """What the environment says for a plugin: `LMS_FILES__MAX_UPLOAD_MB=5` is `max_upload_mb` of `files`."""
    prefix = f"LMS_{plugin.upper()}__"
    return {key.removeprefix(prefix).lower(): value for key, value in environment.items() if key.startswith(prefix)}
