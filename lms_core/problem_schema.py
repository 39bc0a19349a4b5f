"""How errors look to clients, for the OpenAPI document. Apart from errors.py, which has to be imported quickly."""

from pydantic import BaseModel, ConfigDict, Field


class ValidationDetail(BaseModel):
    """Where the input is wrong, and how; the input itself is never echoed."""

    loc: list[str | int]
    msg: str
    type: str


class ProblemRead(BaseModel):
    """What every error answer looks like (RFC 9457)."""

    model_config = ConfigDict(
        extra="allow",
        title="Problem",
        json_schema_extra={
            "example": {
                "type": "about:blank",
                "title": "Not found",
                "status": 404,
                "detail": "There is no such course.",
                "code": "course_not_found",
                "request_id": "0199f0c2b6c17d0c9d5c3a4c5b6a7f80",
            }
        },
    )
    type: str = Field(default="about:blank")
    title: str
    status: int
    detail: str
    code: str
    request_id: str | None = None
    errors: list[ValidationDetail] | None = None
