"""What an institution can set for files, in plugins.toml under [plugins.files]."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, Field

from lms_files.virus_scan import parse_address

MIB = 1024 * 1024


def address_of_scanner(value: str) -> str:
    """An address that `virus_scan` can use; ValueError."""
    parse_address(value)
    return value


class FilesSettings(BaseModel):
    """Sizes in MiB, and where the store keeps what."""

    incoming_bucket: str = Field(default="lms-incoming", min_length=3, max_length=63)
    clean_bucket: str = Field(default="lms-clean", min_length=3, max_length=63)
    # S3 keeps no larger object than 5 TiB.
    max_upload_mb: int = Field(default=2048, ge=1, le=5 * MIB)
    multipart_from_mb: int = Field(
        default=64, ge=0, le=5120, description="0: everything goes in parts, for stores that take no forms"
    )
    scanner: Annotated[str, AfterValidator(address_of_scanner)] | None = Field(
        default=None, description="A clamd, as unix:/run/clamav/clamd.ctl or tcp:host:3310; nothing is ready unscanned"
    )
    backup_endpoint: str = Field(
        default="", pattern=r"^(https?://.*)?$", description="Where backups go to; without it the store of files"
    )
    backup_region: str = ""
    backup_access_key: str = ""
    backup_secret_key: str = Field(default="", description="By LMS_FILES__BACKUP_SECRET_KEY, never in this file")
    quota_mb: int = Field(default=102_400, ge=0, description="For each institution")
    personal_quota_mb: int = Field(default=1024, ge=0, description="For each user's files without a course")

    @property
    def max_upload_bytes(self) -> int:
        """The largest file that is taken."""
        return self.max_upload_mb * MIB

    @property
    def multipart_from_bytes(self) -> int:
        """From this size on a file is uploaded in parts."""
        return self.multipart_from_mb * MIB
