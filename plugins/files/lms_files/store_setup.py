"""Sets up a store for files, and shows by doing it that the store does all that we need: `lms files setup-store`."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp
from botocore.exceptions import ClientError

from lms_core import sdk
from lms_core.sdk import Context, Unavailable, new_id
from lms_files.settings import MIB
from lms_files.storage import LEFT_OVER_DAYS, LIFECYCLE_RULE, SINGLE_COPY_BYTES, Store, store_of
from lms_files.storage_clients import ObjectChanged, ObjectMissing, PartsRefused, code_of

FOLDER = "setup-check"
CONTENT = b"This object shows that the store works, and may be removed."
CONTENT_TYPE = "text/plain"
WRONG_ETAG = '"00000000000000000000000000000000"'
ANSWER_SECONDS = 10.0
CLOCK_WARNS = timedelta(seconds=60)
# S3 refuses signatures from a quarter of an hour on; addresses for downloads live five minutes.
CLOCK_FAILS = timedelta(minutes=5)
IN_WORDS = {
    "InvalidAccessKeyId": "it does not know LMS_S3_ACCESS_KEY; correct it",
    "SignatureDoesNotMatch": "it refuses our signature; correct LMS_S3_SECRET_KEY, "
    "and see that no proxy changes the Host header or the path",
    "RequestTimeTooSkewed": "the clocks differ too much; set this machine's clock or the store's",
    "AccessDenied": "the keys lack a permission; the README of lms-files lists them",
    "AuthorizationHeaderMalformed": "LMS_S3_REGION is not the store's region; correct it",
    "IllegalLocationConstraintException": "it makes no bucket in this region by itself; make the bucket by hand",
    "403": "the keys lack a permission, or the bucket is somebody else's; the README of lms-files lists what is needed",
    "NotImplemented": "it can't do that",
}
STORE_ERRORS = (Unavailable, ObjectMissing, ObjectChanged, PartsRefused, aiohttp.ClientError, OSError)


@dataclass(frozen=True)
class Finding:
    """What a check found, and where it is not well, what to do."""

    level: Literal["ok", "warn", "FAIL"]
    text: str


class Doubtful(Exception):
    """The check ends with a warning; the message says what to do."""


class Failed(Exception):
    """The check fails; the message says what to do."""


@dataclass(frozen=True)
class Answer:
    """What the store answered to a request without the client library, as browsers send it."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def is_good(self) -> bool:
        """Whether the store did it."""
        return 200 <= self.status < 300

    @property
    def is_refused(self) -> bool:
        """Whether the store said no, rather than broke or pointed elsewhere."""
        return 400 <= self.status < 500

    def words(self, header: str) -> set[str]:
        """The words of a header, in small letters."""
        return {word.strip().lower() for word in self.headers.get(header.lower(), "").split(",")}


@dataclass
class Visit:
    """One run against one endpoint of a store; `title` names the setting that the endpoint comes from."""

    store: Store
    endpoint: str
    title: str
    changes: bool
    folder: str = field(default_factory=lambda: f"{FOLDER}/{new_id()}")

    def key(self, name: str) -> str:
        """Where this run keeps a probe object."""
        return f"{self.folder}/{name}"

    def address(self, bucket: str, key: str = "") -> str:
        """An address without a signature."""
        return f"{self.endpoint.rstrip('/')}/{bucket}/{key}".rstrip("/")

    @property
    def origins(self) -> list[str]:
        """What browsers say where they come from; for `*` any origin will do."""
        return ["https://setup-check.example" if origin == "*" else origin for origin in self.store.origins]


@dataclass(frozen=True)
class Check:
    """Something to find out about a store.

    `function` answers with what is well, or raises Doubtful, Failed or one of STORE_ERRORS.
    """

    title: str
    function: Callable[[Visit], Awaitable[str]]


async def ask(
    method: str, url: str, data: bytes | aiohttp.FormData | None = None, headers: dict[str, str] | None = None
) -> Answer:
    """One request. Raises aiohttp.ClientError and TimeoutError."""
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with (
        aiohttp.ClientSession(timeout=timeout) as session,
        session.request(method, url, data=data, headers=headers, allow_redirects=False) as answer,
    ):
        lowered = {name.lower(): value for name, value in answer.headers.items()}
        return Answer(answer.status, lowered, await answer.read())


# What everything else needs


async def clocks_agree(visit: Visit) -> str:
    """The store answers, and what time it has."""
    answer = await ask("GET", visit.endpoint)
    if "date" not in answer.headers:
        raise Doubtful("The store does not say what time it has; see that both clocks are set by NTP.")
    return compared(datetime.now(UTC), parsedate_to_datetime(answer.headers["date"]))


def compared(here: datetime, there: datetime) -> str:
    """What the difference of two clocks means. Raises Doubtful and Failed."""
    seconds = f"{abs(here - there).total_seconds():.0f} s"
    advice = f"The clocks of this machine and the store differ by {seconds}; set both by NTP"
    if abs(here - there) > CLOCK_FAILS:
        raise Failed(f"{advice}: signatures are refused.")
    if abs(here - there) > CLOCK_WARNS:
        raise Doubtful(f"{advice}.")
    return f"they differ by {seconds}"


async def keys_are_accepted(visit: Visit) -> str:
    """A signed request whose answer says what was wrong with it; a HEAD would only say 403."""
    with suppress(ObjectMissing):
        await visit.store.try_keys(visit.endpoint)
    return "they are accepted"


async def buckets_are_there(visit: Visit) -> str:
    """Both buckets, made when they may be."""
    store = visit.store
    for bucket in (store.incoming, store.clean):
        if visit.changes:
            await store.make_bucket(bucket)
        elif not await store.has_bucket(bucket):
            raise Failed(f"There is no bucket {bucket}; run `lms files setup-store` without --check, or make it.")
    return f"{store.incoming} and {store.clean} are there"


# Settings of the buckets


async def origins_are_set(visit: Visit) -> str:
    """The CORS rules; whether browsers may really come is seen by later checks."""
    store = visit.store
    if not visit.changes:
        return "left as they are"
    for bucket in (store.incoming, store.clean):
        try:
            await store.allow_origins(bucket)
        except (Unavailable, ObjectMissing, PartsRefused) as error:
            raise Doubtful(
                f"The store takes no CORS rule ({in_words(error)}). {cors_by_hand(store, bucket)}"
            ) from error
    return "set"


def cors_by_hand(store: Store, bucket: str) -> str:
    """What to set where CORS rules can't be set through S3."""
    origins, methods = ", ".join(store.origins), ", ".join(store.methods_of(bucket))
    return (
        f"In the store's own settings, allow the origins {origins} on the bucket {bucket} the methods {methods} "
        "with all headers, and expose the header ETag."
    )


async def left_overs_expire(visit: Visit) -> str:
    """The lifecycle rules."""
    store = visit.store
    for bucket in (store.incoming, store.clean):
        try:
            if visit.changes:
                await store.expire_left_overs(bucket)
            names = [rule.get("ID") for rule in await store.lifecycle_rules(bucket)]
        except (Unavailable, ObjectMissing, PartsRefused) as error:
            raise Doubtful(f"The store takes no lifecycle rule ({in_words(error)}). {rule_by_hand()}") from error
        if LIFECYCLE_RULE["ID"] not in names:
            raise Doubtful(f"The bucket {bucket} has no lifecycle rule of ours. {rule_by_hand()}")
    return f"unfinished uploads in parts are aborted after {LEFT_OVER_DAYS} days"


def rule_by_hand() -> str:
    """What to set where lifecycle rules can't be set through S3."""
    return (
        "Run `lms files setup-store` without --check, or set by hand: uploads in parts that are unfinished for "
        f"{LEFT_OVER_DAYS} days are aborted in both buckets. No object may expire."
    )


# What must be possible, and what must not


async def strangers_are_refused(visit: Visit) -> str:
    """Nobody reads without a signature."""
    store, key = visit.store, visit.key("private")
    await store.put_incoming(key, CONTENT, CONTENT_TYPE)
    await store.put_clean(key, CONTENT, CONTENT_TYPE)
    for bucket in (store.incoming, store.clean):
        for what, url in (
            ("read", visit.address(bucket, key)),
            ("list", f"{visit.address(bucket)}?list-type=2"),
        ):
            answer = await ask("GET", url)
            if not answer.is_refused:
                raise Failed(
                    f"Anybody can {what} the bucket {bucket} (the store answers {answer.status} without a signature); "
                    "make it private, and see that no proxy signs for strangers."
                )
    return "nobody reads or lists without a signature"


async def copies_are_bound_to_an_etag(visit: Visit) -> str:
    """What was verified, and nothing that replaced it, gets to readers."""
    store, source, target = visit.store, visit.key("source"), visit.key("copy")
    await store.put_incoming(source, CONTENT, CONTENT_TYPE)
    etag = (await store.find(store.incoming, source)).etag
    await store.publish(source, etag, target, CONTENT_TYPE)
    if (await store.find(store.clean, target)).size != len(CONTENT):
        raise Failed("A copy inside the store is not whole; this store can't be used.")
    try:
        await store.publish(source, WRONG_ETAG, target, CONTENT_TYPE)
    except ObjectChanged:
        return "objects are copied, and only as they were verified"
    raise Failed("The store copies although CopySourceIfMatch does not fit; this store can't be used safely.")


async def copies_in_parts_are_bound_to_an_etag(visit: Visit) -> str:
    """The same for files that are copied in parts; a store that can't is good for smaller ones."""
    store, key, target = visit.store, visit.key("source"), visit.key("copy-in-parts")
    await store.put_incoming(key, CONTENT, CONTENT_TYPE)
    etag = (await store.find(store.incoming, key)).etag
    most_mb = SINGLE_COPY_BYTES // MIB
    advice = f"keep max_upload_mb at {most_mb} or less with this store."
    problem = Failed if store.largest_upload > SINGLE_COPY_BYTES else Doubtful
    try:
        await store.copy_in_parts(key, etag, len(CONTENT), target, CONTENT_TYPE)
    except (Unavailable, ObjectMissing, ObjectChanged, PartsRefused) as error:
        raise problem(f"The store can't copy in parts ({in_words(error)}); {advice}") from error
    try:
        await store.copy_in_parts(key, WRONG_ETAG, len(CONTENT), target, CONTENT_TYPE)
    except ObjectChanged:
        return f"objects above {most_mb} MiB are copied in parts, and only as they were verified"
    raise problem(f"The store copies parts although CopySourceIfMatch does not fit; {advice}")


async def forms_are_bound(visit: Visit) -> str:
    """A form stores what was signed: this key, no byte more."""
    store, key = visit.store, visit.key("form")
    if not store.takes_forms:
        return "not needed, since multipart_from_mb is 0"
    form = await store.upload_form(key, CONTENT_TYPE, len(CONTENT))
    answer = await send_form(form, CONTENT)
    if not answer.is_good:
        raise Failed(
            f"The store refuses a signed form ({said(answer)}). If it takes no POST forms at all, as R2 does not, "
            "set multipart_from_mb to 0 under [plugins.files] (LMS_FILES__MULTIPART_FROM_MB): "
            "then everything is uploaded in parts."
        )
    if not (await send_form(form, CONTENT + b"x")).is_refused:
        raise Failed("The store takes a form with one byte more than was signed; this store can't be used safely.")
    if not (await send_form(form, CONTENT, key=visit.key("another"))).is_refused:
        raise Failed("The store takes a form with another key than was signed; this store can't be used safely.")
    try:
        found = await store.find(store.incoming, key)
    except ObjectMissing:
        raise Failed(
            f"What is uploaded at {visit.endpoint} does not arrive at {store.endpoint}; correct one."
        ) from None
    if found.size != len(CONTENT):
        raise Failed("What a form uploads is not whole in the store; see what is between clients and the store.")
    return "a signed form uploads, one byte more or another key is refused"


async def send_form(form: dict[str, Any], content: bytes, **changed_fields: str) -> Answer:
    """As a browser sends it."""
    data = aiohttp.FormData()
    for name, value in {**form["fields"], **changed_fields}.items():
        data.add_field(name, value)
    data.add_field("file", content, filename="probe.txt", content_type=CONTENT_TYPE)
    return await ask("POST", form["url"], data)


async def downloads_are_bound(visit: Visit) -> str:
    """A signed address hands out the object under its name, a changed one nothing."""
    store, key = visit.store, visit.key("download")
    disposition = 'attachment; filename="probe.txt"'
    await store.put_clean(key, CONTENT, CONTENT_TYPE)
    url = await store.download_url(key, CONTENT_TYPE, disposition)
    answer = await ask("GET", url)
    if not answer.is_good or answer.body != CONTENT:
        raise Failed(f"A signed download does not work ({said(answer)}); see what is between clients and the store.")
    if answer.headers.get("content-disposition") != disposition:
        raise Failed("The store ignores response-content-disposition, so that files have no names; use another store.")
    start, _, signature = url.partition("X-Amz-Signature=")
    edited = f"{start}X-Amz-Signature={'1' if signature[0] == '0' else '0'}{signature[1:]}"
    if not (await ask("GET", edited)).is_refused:
        raise Failed("The store hands out objects with a wrong signature; this store or a proxy before it is not safe.")
    return "a signed download works, an edited signature is refused"


async def uploads_in_parts_work(visit: Visit) -> str:
    """Begin, send a part, list, complete; and abort."""
    store, key = visit.store, visit.key("parts")
    upload_id = await store.start_multipart(key, CONTENT_TYPE)
    (url,) = await store.part_urls(key, upload_id, len(CONTENT))
    answer = await ask("PUT", url, CONTENT)
    if not answer.is_good or "etag" not in answer.headers:
        raise Failed(f"A signed part is not taken, or has no ETag ({said(answer)}); see what is before the store.")
    parts = await store.uploaded_parts(key, upload_id)
    if [(part.number, part.size) for part in parts] != [(1, len(CONTENT))]:
        raise Failed("The store does not list the parts that it has; uploads can't be resumed with it.")
    await store.complete_multipart(key, upload_id, [(part.number, part.etag) for part in parts])
    if (await store.find(store.incoming, key)).size != len(CONTENT):
        raise Failed("An upload in parts is not whole; this store can't be used.")
    aborted = await store.start_multipart(key, CONTENT_TYPE)
    await store.abort_multipart(key, aborted)
    try:
        await store.uploaded_parts(key, aborted)
    except ObjectMissing:
        return "uploads in parts are begun, listed, completed and aborted"
    raise Failed("The store goes on with an upload that was aborted; its room is never given back.")


async def browsers_may_come(visit: Visit) -> str:
    """The preflight of every origin."""
    store = visit.store
    form = await store.upload_form(visit.key("cors"), CONTENT_TYPE, 1)
    asked = [
        (store.incoming, "PUT", visit.address(store.incoming, visit.key("cors"))),
        (store.clean, "GET", visit.address(store.clean, visit.key("cors"))),
    ]
    if store.takes_forms:
        asked.insert(0, (store.incoming, "POST", form["url"]))
    for origin in visit.origins:
        for bucket, method, url in asked:
            answer = await ask("OPTIONS", url, headers={"Origin": origin, "Access-Control-Request-Method": method})
            methods = answer.words("Access-Control-Allow-Methods")
            if not answer.is_good or not lets_in(answer, origin) or not methods & {method.lower(), "*"}:
                raise Failed(f"Browsers at {origin} may not {method} ({answer.status}). {cors_by_hand(store, bucket)}")
    return f"browsers at {', '.join(store.origins)} may upload and download"


async def browsers_see_etags(visit: Visit) -> str:
    """Front ends need the ETag of each part; what is exposed is said with the part's own answer."""
    store, key = visit.store, visit.key("etag")
    upload_id = await store.start_multipart(key, CONTENT_TYPE)
    (url,) = await store.part_urls(key, upload_id, len(CONTENT))
    for origin in visit.origins:
        answer = await ask("PUT", url, CONTENT, {"Origin": origin})
        if not lets_in(answer, origin) or not answer.words("Access-Control-Expose-Headers") & {"etag", "*"}:
            raise Failed(f"Browsers at {origin} can't see the ETag of a part. {cors_by_hand(store, store.incoming)}")
    return "browsers see the ETag of each part"


def lets_in(answer: Answer, origin: str) -> bool:
    """Whether a browser lets a page of this origin have the answer."""
    return answer.headers.get("access-control-allow-origin") in (origin, "*")


def said(answer: Answer) -> str:
    """What the store answered, for people."""
    return f"{answer.status} {answer.body[:200].decode(errors='replace')}".strip()


# All of it

ANSWERS = (Check("clocks", clocks_agree), Check("keys", keys_are_accepted))
FOUNDATIONS = (*ANSWERS, Check("buckets", buckets_are_there))
STRANGERS = Check("strangers", strangers_are_refused)
INSIDE = (
    Check("CORS rules", origins_are_set),
    Check("lifecycle rules", left_overs_expire),
    STRANGERS,
    Check("copies", copies_are_bound_to_an_etag),
    Check("copies in parts", copies_in_parts_are_bound_to_an_etag),
)
PUBLIC = (
    Check("forms", forms_are_bound),
    Check("downloads", downloads_are_bound),
    Check("uploads in parts", uploads_in_parts_work),
    Check("other origins", browsers_may_come),
    Check("ETags", browsers_see_etags),
)


async def examine(store: Store, changes: bool) -> AsyncIterator[Finding]:
    """Set a store up (only with `changes`) and check it; findings come as they are made, and no probe stays there."""
    inside = Visit(store, store.endpoint, "LMS_S3_ENDPOINT", changes)
    foundations = [await outcome(inside, check) for check in FOUNDATIONS]
    for finding in foundations:
        yield finding
    if any(finding.level == "FAIL" for finding in foundations):
        return
    try:
        for check in INSIDE:
            yield await outcome(inside, check)
        async for finding in examine_public(inside):
            yield finding
    finally:
        removal = await outcome(inside, Check("probe objects", remove_probes))
    yield removal


async def examined(context: Context) -> AsyncIterator[sdk.Finding]:
    """The same for `lms doctor`, which changes nothing; what is only doubtful is no problem of today."""
    async for finding in examine(store_of(context), changes=False):
        doubt = "doubtful, " if finding.level == "warn" else ""
        yield sdk.Finding(finding.level != "FAIL", f"{doubt}{finding.text}")


async def examine_public(inside: Visit) -> AsyncIterator[Finding]:
    """What clients do; when nothing answers them, nothing else is tried."""
    store = inside.store
    if store.public_endpoint == store.endpoint:
        public, checks = inside, list(PUBLIC)
    else:
        public = replace(inside, endpoint=store.public_endpoint, title="LMS_S3_PUBLIC_ENDPOINT")
        checks = [STRANGERS, *PUBLIC]
        answers = [await outcome(public, check) for check in ANSWERS]
        for finding in answers:
            yield finding
        if any(finding.level == "FAIL" for finding in answers):
            return
    for check in checks:
        yield await outcome(public, check)


async def outcome(visit: Visit, check: Check) -> Finding:
    """What a check finds; whatever else the store does wrong is a failure of it."""
    where = f"{visit.title}, {check.title}"
    try:
        return Finding("ok", f"{where}: {await check.function(visit)}")
    except Doubtful as problem:
        return Finding("warn", f"{where}: {problem}")
    except Failed as problem:
        return Finding("FAIL", f"{where}: {problem}")
    except STORE_ERRORS as error:
        return Finding("FAIL", f"{where}: {in_words(error)}.")


def in_words(error: BaseException) -> str:
    """What went wrong and what to do, for people who run a store."""
    cause = error.__cause__ or error
    if isinstance(cause, ClientError):
        code = code_of(cause)
        return IN_WORDS.get(code, f"the store answers {code}")
    return f"no answer ({str(cause) or type(cause).__name__}); see that the address is right and the store runs"


async def remove_probes(visit: Visit) -> str:
    """Remove what the checks stored."""
    store = visit.store
    async for found in store.left_over(f"{visit.folder}/"):
        if found.upload_id is None:
            await store.delete_incoming(found.key)
        else:
            await store.abort_multipart(found.key, found.upload_id)
    async for listed in store.clean_objects(f"{visit.folder}/"):
        await store.delete_clean(listed.key)
    return "removed"
