"""Who may see internals: `/metrics`, and the whole of `/health`."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from ipaddress import ip_address, ip_network

from lms_core.config import Settings


def may_see_internals(settings: Settings, headers: Mapping[str, str], address: str | None) -> bool:
    """Anybody in development; in production whoever has the token, or comes from an internal address.

    Internal are the networks of `LMS_INTERNAL_NETWORKS`, this machine alone by default: behind a proxy in another
    container every stranger would seem to come from a private address. What a proxy passed on has no address we know.
    """
    if not settings.production:
        return True
    told = headers.get("authorization", "")
    if settings.metrics_token and hmac.compare_digest(told.encode(), f"Bearer {settings.metrics_token}".encode()):
        return True
    if "x-forwarded-for" in headers or "forwarded" in headers or address is None:
        return False
    try:
        found = ip_address(address)
    except ValueError:
        return False
    return any(
        found in ip_network(network.strip()) for network in settings.internal_networks.split(",") if network.strip()
    )
