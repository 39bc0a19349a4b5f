"""Where a session was begun: the device, by a name that its owner knows it by, and the address."""

from dataclasses import dataclass

import ua_parser
from fastapi import Request

NAME_LENGTH = 300
IP_LENGTH = 64


@dataclass(frozen=True)
class Device:
    """Where a request comes from."""

    name: str
    ip: str


def device_of(request: Request) -> Device:
    """The caller's device and address."""
    ip = request.client.host if request.client is not None else "unknown"
    return Device(name_of(request.headers.get("user-agent", "")), ip[:IP_LENGTH])


def name_of(user_agent: str) -> str:
    """Such as `Firefox on Windows`; what is no browser that anybody knows keeps what it calls itself."""
    printable = "".join(filter(str.isprintable, user_agent))[:NAME_LENGTH]
    known = ua_parser.parse(printable)
    if known.user_agent is None or known.os is None:
        return printable
    model = known.device.family if known.device is not None else known.os.family
    return f"{known.user_agent.family} on {model}"
