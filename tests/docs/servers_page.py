"""The page docs/servers.md, its tables read off relay/fhir/profiles.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from devstack import hapi, medplum
from relay.fhir.profiles import DEFAULT_ENTRIES, LEAST_ENTRIES, PROFILES, RetryForm, ServerProfile

_HEAD: Final = """\
# FHIR servers

Written by `python tests/docs/generated.py` from `relay/fhir/profiles.py`; do not edit.

The relay speaks plain FHIR R4 and reads every answer for what it says, whoever gives it. Where servers differ, and how
that is handled, is on this page. What is known of a kind of server is one table in the code, its *profile*; nothing
depends on it for correctness. It decides two things, and a setting wins over it in both:

| what | profile | setting |
|---|---|---|
| How many entries one batch has: the server's limit, at most {default}. A batch that is refused as too large is halved, so a wrong number costs calls and nothing else | `entries` | `RELAY_FHIR_BATCH_ENTRIES` |
| Whether versions are integers that grow: then of two bodies with one time the lower version is the older, and is skipped | `ordered` | `RELAY_FHIR_VERSIONS` |

The kind is told by the host where that is the maker's own (Azure, Google, AWS), else by `software.name` in the
CapabilityStatement. It is asked for once in a process, only when one of the two matters (a batch of more than {least} entries,
a resource that names its version), and not counted as a call. A server that does not answer in 10 seconds is taken for
any other and asked again five minutes later.
"""

_NOTES: Final = """\
## What the relay does about it

- **Conflicts.** 412 and 409 mean the same on a guarded PUT: read again, merge again, at most six times, then queued.
- **A guarded PUT of what is not there.** HAPI takes If-Match to mean nothing where no version ever was, and creates. The
  relay puts only what it has just read, so this takes a purge (`$expunge`) between read and PUT. The 201 gives it
  away: dead letter `brought-back`, for a person to say whether it is to go again. A resource that was deleted, not
  purged, is refused by all of them.
- **Versions in a batch.** An ETag, a bare version (HAPI) or none but in the resource (Medplum): each is turned into what
  If-Match must say.
- **Identical PUTs.** The relay makes none: a resource that has its identifier is not put. So a server that makes a version
  of each PUT sees no echo either.
- **Ids of digits alone.** HAPI refuses them on a PUT (`HAPI-0960`) and gives them out itself. The relay creates by POST
  with If-None-Exist; where it [forwards](forward.md) a POST, it chooses a UUID.
- **Searches.** HAPI may answer from a cache for a minute; the relay asks with `Cache-Control: no-cache`, so that what was
  just made is found. It always searches by POST of a form. Medplum's router in memory does not find values with a bar in them.
- **Numbers.** HAPI and Medplum rewrite some (`1e3`, `1.10`) when they come in. What the relay puts differs in `identifier`
  alone from what the server gave, to the letter.
- **Waits.** `x-ms-retry-after-ms` first, then `Retry-After` in seconds or as a date, counted from the answer's own `Date`. All
  three are tried on every server by a proxy in front of it, because none of those at hand throttles.
- **Tags.** HAPI keeps tags, profiles and labels that a PUT leaves out. The relay leaves out nothing.
"""

_TRY: Final = """\
## HAPI on this machine

Java 17 or newer and Maven (`java`, `javac`, `mvn`). The first time, {hapi} of HAPI FHIR JPA is resolved and compiled into
`$RELAY_CACHE`, else `relay` in `$XDG_CACHE_HOME` or `~/.cache`: half a minute and 330 MB. It runs in memory, up in 12 to 20
seconds with about a gigabyte, and ends with the command:

```sh
.venv/bin/relay up --fhir hapi
```

POST bundles, or have it tell of changes by a [Subscription](ways-in.md#fhir-subscriptions-hapi). With Docker the usual image will do as well (not run here):

```sh needs Docker
docker run --rm -p 8080:8080 hapiproject/hapi:latest
RELAY_FHIR_AUTH=none .venv/bin/relay up --fhir http://127.0.0.1:8080/fhir
```

## How it is tested

`tests/contract/fhir` is one suite for all servers: the same tests, and where servers differ the profile is what is asserted. On
the embedded server it is part of `make test`. `make test-real` installs HAPI FHIR JPA {hapi} and Medplum's
`@medplum/fhir-router` {medplum} (Node 20.19 or newer, `node` and `npm`), prints their versions, and runs it on both, with the
main job end to end: bundle to rows to GUIDs in their resources, the same again without a new version, a foreign writer
that edits the same resources meanwhile, and whole synthetic records. HAPI is also loaded with 572 patients and a whole
record while its Subscription tells the relay; `RELAY_TEST_RECORDS=10` makes it ten records, for four minutes more.

A server of your own, which gets Patients with ids `contract-…` and loses them again:

```sh
FHIR_URL=https://fhir.example.org/r4 FHIR_HEADER='Authorization: Bearer …' .venv/bin/python -m pytest -m real tests/contract/fhir
```
"""

_FORMS: Final[dict[RetryForm, str]] = {
    "seconds": "`Retry-After`, seconds",
    "date": "`Retry-After`, date",
    "milliseconds": "`x-ms-retry-after-ms`",
}


def _yes(value: bool | None) -> str:
    return "?" if value is None else "yes" if value else "no"


def _known(value: object) -> str:
    return "?" if value is None else str(value)


_FACTS: Final[tuple[tuple[str, Callable[[ServerProfile], str]], ...]] = (
    ("how it is known", lambda it: it.how),
    ("stale If-Match", lambda it: " or ".join(map(str, sorted(it.conflict)))),
    ("guarded PUT of what never was", lambda it: _known(it.lost_put)),
    ("versions", lambda it: "integers that grow" if it.ordered else "opaque"),
    (
        "identical PUT",
        lambda it: {"version": "new version", "same": "same version", None: "?"}[it.identical_put],
    ),
    ("PUT creates an id of digits", lambda it: _yes(it.digits)),
    ("PUT that creates", lambda it: _known(it.put_create)),
    ("read after delete", lambda it: _known(it.after_delete)),
    (
        "most entries of a batch",
        lambda it: _known(it.entries) if it.how != "tested" else _known(it.entries or "no limit met"),
    ),
    (
        "version in a batch",
        lambda it: {"etag": '`W/"3"`', "bare": "`3`", "none": "in the resource", None: "?"}[it.batch_etag],
    ),
    ("searches may be cached", lambda it: _yes(it.cached_search)),
    ("finds escaped bars", lambda it: _yes(it.escapes)),
    ("numbers keep their digits", lambda it: _yes(it.number_text)),
    (
        "says when to come back",
        lambda it: "?" if it.retry is None else ", ".join(_FORMS[each] for each in it.retry) or "never throttles",
    ),
)


def servers_page() -> str:
    """Return docs/servers.md."""
    lines = [
        _HEAD.format(default=DEFAULT_ENTRIES, least=LEAST_ENTRIES),
        "## What is known",
        "",
        "`tested`: by the suite below, on the version named there. `documented`: as the maker says, not run here. `?`: not known,",
        "and nothing is made of it.",
        "",
        f"| | {' | '.join(each.name for each in PROFILES)} |",
        f"|---|{'---|' * len(PROFILES)}",
    ]
    lines += [f"| {name} | {' | '.join(tell(each) for each in PROFILES)} |" for name, tell in _FACTS]
    return "\n".join([*lines, "", _NOTES, _TRY.format(hapi=hapi.version(), medplum=medplum.version())])
