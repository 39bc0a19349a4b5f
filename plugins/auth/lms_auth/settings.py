"""The settings of the auth plugin, in plugins.toml or as `LMS_AUTH__<NAME>`."""

from datetime import timedelta

from pydantic import BaseModel, Field

LINK = r"^(https?://\S*\{token\}\S*)?$"


class AuthSettings(BaseModel):
    """How long things live, how passwords must be, and how many guesses are free."""

    access_token_minutes: int = Field(default=10, ge=1, le=60)
    refresh_grace_seconds: int = Field(default=10, ge=0, le=60)
    session_idle_days: int = Field(default=30, ge=1, le=365)
    session_absolute_days: int = Field(default=90, ge=1, le=3650)
    password_min_length: int = Field(default=12, ge=8, le=64)
    password_reset_minutes: int = Field(default=30, ge=5, le=1440)
    invitation_days: int = Field(default=7, ge=1, le=90)
    password_reset_link: str = Field(default="", pattern=LINK, description="The front end's page, with {token} in it")
    invitation_link: str = Field(default="", pattern=LINK, description="The front end's page, with {token} in it")
    hash_threads: int | None = Field(default=None, ge=1, le=256, description="As many as cores, when left out")
    hash_queue: int = Field(default=64, ge=1, le=10_000)
    wrong_passwords_per_account: int = Field(default=10, ge=1, le=1000)
    wrong_passwords_per_address: int = Field(default=100, ge=1, le=100_000)
    wrong_passwords_minutes: int = Field(default=5, ge=1, le=1440)

    @property
    def access_token_life(self) -> timedelta:
        """How long an access token is valid."""
        return timedelta(minutes=self.access_token_minutes)

    @property
    def refresh_grace(self) -> timedelta:
        """How long the token before the newest one is still answered with the newest."""
        return timedelta(seconds=self.refresh_grace_seconds)

    @property
    def idle_life(self) -> timedelta:
        """How long a session lives without use."""
        return timedelta(days=self.session_idle_days)

    @property
    def absolute_life(self) -> timedelta:
        """How long a session lives at most."""
        return timedelta(days=self.session_absolute_days)

    @property
    def reset_life(self) -> timedelta:
        """How long a password reset can be confirmed."""
        return timedelta(minutes=self.password_reset_minutes)

    @property
    def invitation_life(self) -> timedelta:
        """How long an invitation can be accepted."""
        return timedelta(days=self.invitation_days)

    def way_in(self, link: str, token: str) -> str:
        """What a mail tells people to do with a token: follow the front end's link or, without one, enter the code."""
        return f"follow this link:\n\n{link.replace('{token}', token)}" if link else f"enter this code:\n\n{token}"
