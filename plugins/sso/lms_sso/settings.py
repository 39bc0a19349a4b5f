"""The settings of the sso plugin, in plugins.toml or as `LMS_SSO__<NAME>`."""

from pydantic import BaseModel, Field


class SsoSettings(BaseModel):
    """How long things live, and where providers may be."""

    attempt_minutes: int = Field(default=10, ge=1, le=60, description="How long somebody may take at the provider")
    code_seconds: int = Field(default=60, ge=10, le=600, description="How long the code for the tokens is good")
    private_providers: bool = Field(
        default=False, description="Whether a provider may be at a private address; outside of production by http, too"
    )
