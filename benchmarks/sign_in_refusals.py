"""Whether the time of a refused login tells why: medians for each reason, interleaved.

    LMS_AUTH__WRONG_PASSWORDS_PER_ACCOUNT=1000 LMS_AUTH__WRONG_PASSWORDS_PER_ADDRESS=100000 \\
    LMS_ADMIN_EMAIL=admin@example.org LMS_ADMIN_PASSWORD='correct horse battery staple' python3 -m lms_core up
    LMS=http://127.0.0.1:8000 python benchmarks/sign_in_refusals.py

The suite counts hash verifications instead (plugins/auth/tests/test_login.py), since timings are never asserted there.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from uuid import uuid4

import httpx2

ROUNDS = 60
ADMIN = {"username": "admin@example.org", "password": "correct horse battery staple"}
PASSWORD = "benchmarks need long passwords"


async def prepare(client: httpx2.AsyncClient) -> dict[str, str]:
    """An address for each reason."""
    token = (await client.post("/auth/login", data=ADMIN)).raise_for_status().json()["access_token"]
    client.headers["Authorization"] = f"Bearer {token}"
    addresses = {"unknown": f"{uuid4().hex}@example.org"}
    for reason in ("wrong password", "disabled", "deleted", "no password"):
        addresses[reason] = f"{uuid4().hex}@example.org"
        body = {"email": addresses[reason], "full_name": reason}
        if reason != "no password":
            body["password"] = PASSWORD
        user = (await client.post("/users", json=body)).raise_for_status().json()
        if reason == "disabled":
            (await client.patch(f"/users/{user['id']}", json={"is_active": False})).raise_for_status()
        if reason == "deleted":
            (await client.delete(f"/users/{user['id']}")).raise_for_status()
    del client.headers["Authorization"]
    return addresses


async def measure() -> None:
    """Ask in turn, and print medians and quartiles in milliseconds."""
    async with httpx2.AsyncClient(base_url=os.environ.get("LMS", "http://127.0.0.1:8000"), timeout=30) as client:
        addresses = await prepare(client)
        taken: dict[str, list[float]] = {reason: [] for reason in addresses}
        for _ in range(ROUNDS + 1):
            for reason, email in addresses.items():
                begun = time.perf_counter()
                answer = await client.post("/auth/login", data={"username": email, "password": "not the right one"})
                taken[reason].append((time.perf_counter() - begun) * 1000)
                assert answer.status_code == 401, answer.text
    for reason, milliseconds in taken.items():
        low, median, high = statistics.quantiles(milliseconds[1:], n=4)
        print(f"{reason:15} {median:6.2f} ms ({low:.2f} to {high:.2f})")


if __name__ == "__main__":
    asyncio.run(measure())
