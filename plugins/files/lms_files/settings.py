"""What an institution can set for files, in plugins.toml under [plugins.files]."""

from pydantic import BaseModel, Field

MIB = 1024 * 1024


class FilesSettings(BaseModel):
    """Sizes in MiB, and where the store keeps what."""

    incoming_bucket: str = Field(default="lms-incoming", min_length=3, max_length=63)
    clean_bucket: str = Field(default="lms-clean", min_length=3, max_length=63)
    # A copy inside the store takes 5 GiB at most.
    max_upload_mb: int = Field(default=2048, ge=1, le=5120)
    multipart_from_mb: int = Field(default=64, ge=1, le=5120)
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
