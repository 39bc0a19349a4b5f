"""The example page for uploads in a real browser, on another origin than the API and the store."""

from __future__ import annotations

import json
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import boto3
import pytest
import samples
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright
from running import REPOSITORY, System, system

from lms_core.testing import ADMIN_EMAIL, ADMIN_PASSWORD

MIB = 1024 * 1024
CHROMIUM = shutil.which("chromium")
OPTIONS = [
    "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
]  # fmt: skip
NAME = "Фотосинтез 光合作用.mp4"
# Three parts of 16, 16 and 8 MiB, none like another.
VIDEO = samples.MP4.ljust(16 * MIB, b"1") + b"2" * 16 * MIB + b"3" * 8 * MIB
MILLISECONDS = 30_000
# The next request for an upload goes with a token that the API refuses. Not by page.route(): with that on, some
# preflights are answered by it, and the page never learns of the 401.
EXPIRE = """() => {
  const send = window.fetch;
  window.fetch = (url, options) => {
    if (!url.endsWith("/files") || options.method !== "POST") return send(url, options);
    window.fetch = send;
    return send(url, {...options, headers: {...options.headers, Authorization: "Bearer expired"}});
  };
}"""

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="NOT TESTED in a browser: there is none. Install chromium (Debian, Fedora)."
)


class Pages(SimpleHTTPRequestHandler):
    """The example's folder."""

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing."""


@contextmanager
def pages() -> Iterator[str]:
    """An origin that serves the example."""
    handler = partial(Pages, directory=str(REPOSITORY / "examples" / "upload"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


@pytest.fixture(scope="module")
def origin() -> Iterator[str]:
    with pages() as address:
        yield address


@pytest.fixture(scope="module")
def lms_system(origin: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    with system(
        tmp_path_factory.mktemp("browser") / "data", LMS_CORS_ORIGINS=origin, LMS_FILES__MULTIPART_FROM_MB="5"
    ) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    # Chromium has no sandbox for root.
    options = [*OPTIONS, "--no-sandbox"] if os.geteuid() == 0 else OPTIONS
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


@pytest.fixture
def page(browser: Browser, lms_system: System, origin: str) -> Iterator[Page]:
    """The page, signed in."""
    with ExitStack() as stack:
        context = browser.new_context(accept_downloads=True)
        stack.callback(context.close)
        opened = context.new_page()
        opened.set_default_timeout(MILLISECONDS)
        opened.goto(origin)
        sign_in(opened, lms_system)
        yield opened


def sign_in(page: Page, running: System) -> None:
    page.fill("#api", running.url)
    page.fill("#email", ADMIN_EMAIL)
    page.fill("#password", ADMIN_PASSWORD)
    page.click("#sign-in")
    expect(page.locator("#signed-in")).to_have_text("Signed in.", timeout=MILLISECONDS)


def upload(page: Page, path: Path) -> None:
    page.set_input_files("#file", path)
    page.click("#upload")


def until(page: Page, state: str) -> None:
    expect(page.locator("#state")).to_have_text(state, timeout=MILLISECONDS)


def downloaded(page: Page) -> tuple[str, bytes]:
    """The name under which the browser saves it, and the bytes."""
    with page.expect_download() as begun:
        page.click("#download")
    return begun.value.suggested_filename, begun.value.path().read_bytes()


def parts_sent(page: Page) -> list[int]:
    """Grows with each PUT of a part."""
    numbers: list[int] = []

    def note(request: Request) -> None:
        found = re.search(r"[?&]partNumber=(\d+)", request.url)
        if request.method == "PUT" and found:
            numbers.append(int(found[1]))

    page.on("request", note)
    return numbers


def slowly(page: Page, bytes_per_second: int) -> Callable[[], None]:
    """A slow line for uploads; call the answer to end it."""
    session = page.context.new_cdp_session(page)
    line = {"offline": False, "latency": 0, "downloadThroughput": -1}
    session.send("Network.enable")
    session.send("Network.emulateNetworkConditions", {**line, "uploadThroughput": bytes_per_second})
    return lambda: session.send("Network.emulateNetworkConditions", {**line, "uploadThroughput": -1})  # type: ignore[func-returns-value]


def test_a_small_file_goes_as_a_form(page: Page, tmp_path: Path) -> None:
    content = samples.pdf(["Photosynthesis"])
    (tmp_path / "Leaf.pdf").write_bytes(content)
    page.evaluate(EXPIRE)
    with page.expect_request("**/auth/refresh"):
        upload(page, tmp_path / "Leaf.pdf")
    until(page, "ready")
    expect(page.locator("#derivatives")).to_have_text(
        "text: ready, preview: ready, thumbnail: ready", timeout=MILLISECONDS
    )
    expect(page.locator("#thumbnail")).to_be_visible()
    page.wait_for_function("document.getElementById('thumbnail').naturalWidth > 100")
    assert downloaded(page) == ("Leaf.pdf", content)


def test_a_download_is_asked_for_and_not_followed(page: Page, lms_system: System, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Photosynthesis")
    with page.expect_request(re.compile("/complete$")) as completed:
        upload(page, tmp_path / "notes.txt")
    until(page, "ready")
    address = completed.value.url.replace("/complete", "/download")
    token = completed.value.headers["authorization"]
    read = "([url, token]) => fetch(url, {headers: {Authorization: token}}).then(answer => answer.json(), String)"
    url = page.evaluate(read, [address, token])["url"]
    assert page.evaluate("url => fetch(url).then(answer => answer.text(), String)", url) == "Photosynthesis"
    # Led on to the store, the browser says that the page's origin is `null`.
    assert page.evaluate(read, [f"{address}?redirect=true", token]) == "TypeError: Failed to fetch"


def test_what_is_refused_says_why(page: Page, tmp_path: Path) -> None:
    (tmp_path / "program.exe").write_bytes(samples.WINDOWS_PROGRAM)
    upload(page, tmp_path / "program.exe")
    expect(page.locator("#message")).to_contain_text("content_type_not_allowed")
    (tmp_path / "program.pdf").write_bytes(samples.WINDOWS_PROGRAM)
    upload(page, tmp_path / "program.pdf")
    until(page, "rejected")
    expect(page.locator("#reason")).to_have_text("type_mismatch")
    expect(page.locator("#download")).to_be_hidden()


def test_a_large_file_goes_on_after_a_reload_and_a_lost_connection(
    page: Page, lms_system: System, tmp_path: Path
) -> None:
    path = tmp_path / NAME
    path.write_bytes(VIDEO)
    numbers = parts_sent(page)
    fast = slowly(page, 8 * MIB)
    upload(page, path)
    seen: list[float] = []
    deadline = time.monotonic() + MILLISECONDS / 1000
    while page.text_content("#parts") not in ("1 of 3 parts", "2 of 3 parts"):
        assert time.monotonic() < deadline, (seen, page.text_content("#parts"), page.text_content("#message"))
        seen.append(page.eval_on_selector("#progress", "bar => bar.value"))
        page.wait_for_timeout(50)
    assert seen == sorted(seen)
    assert len({value for value in seen if 0 < value < 1}) >= 3
    page.reload()
    fast()
    numbers.clear()
    expect(page.locator("#unfinished")).to_contain_text(NAME)
    assert page.input_value("#api") == lms_system.url

    page.route(re.compile("partNumber="), lambda route: route.abort("connectionreset"), times=1)
    sign_in(page, lms_system)
    with page.expect_request(re.compile("/upload$")) as signed:
        upload(page, path)
    answer = signed.value.response()
    assert answer is not None
    arrived = {part["number"] for part in answer.json()["upload"]["uploaded"]}
    assert arrived
    until(page, "ready")
    assert set(numbers) == {1, 2, 3} - arrived
    assert len(numbers) == len(set(numbers)) + 1
    expect(page.locator("#unfinished")).to_have_text("")
    name, content = downloaded(page)
    assert (name, content == VIDEO) == (NAME, True)


def put_together(running: System, file_id: str) -> None:
    """What the API asks the store for when an upload in parts is completed; it then died."""
    reached = json.loads((running.data / "environment.json").read_text())
    store = boto3.client(
        "s3",
        endpoint_url=reached["LMS_S3_ENDPOINT"],
        aws_access_key_id=reached["LMS_S3_ACCESS_KEY"],
        aws_secret_access_key=reached["LMS_S3_SECRET_KEY"],
        region_name="us-east-1",
    )
    key = f"incoming/{file_id}"
    [begun] = store.list_multipart_uploads(Bucket="lms-incoming", Prefix=key)["Uploads"]
    upload = {"Bucket": "lms-incoming", "Key": key, "UploadId": begun["UploadId"]}
    parts = [{name: part[name] for name in ("PartNumber", "ETag")} for part in store.list_parts(**upload)["Parts"]]
    store.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})


def test_an_upload_whose_completion_got_lost_goes_on_after_a_reload(
    page: Page, lms_system: System, tmp_path: Path
) -> None:
    path = tmp_path / NAME
    path.write_bytes(VIDEO)
    completed = re.compile("/files/([^/]+)/complete$")
    page.route(completed, lambda route: route.abort("connectionreset"), times=1)
    with page.expect_request(completed) as asked:
        upload(page, path)
    found = completed.search(asked.value.url)
    assert found is not None
    put_together(lms_system, found[1])
    page.reload()
    numbers = parts_sent(page)
    sign_in(page, lms_system)
    upload(page, path)
    until(page, "ready")
    assert numbers == []
    assert downloaded(page)[1] == VIDEO


def test_giving_up(page: Page, lms_system: System, tmp_path: Path) -> None:
    path = tmp_path / NAME
    path.write_bytes(VIDEO)
    slowly(page, MIB)
    upload(page, path)
    expect(page.locator("#parts")).to_have_text("0 of 3 parts", timeout=MILLISECONDS)
    page.click("#cancel")
    until(page, "cancelled")
    assert page.evaluate("localStorage.length") == 0


def test_a_page_of_another_origin_reads_nothing(browser: Browser, lms_system: System) -> None:
    ask = "address => fetch(address).then(answer => answer.text(), error => String(error))"
    with pages() as stranger, browser.new_context() as context:
        page = context.new_page()
        page.goto(stranger)
        for path in ("/health/live", "/files"):
            assert page.evaluate(ask, lms_system.url + path) == "TypeError: Failed to fetch"
        page.fill("#api", lms_system.url)
        page.fill("#email", ADMIN_EMAIL)
        page.fill("#password", ADMIN_PASSWORD)
        page.click("#sign-in")
        expect(page.locator("#message")).to_have_text("Failed to fetch")
