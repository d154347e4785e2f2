"""One payload on its way: what a message of the inbound queue says of it. Plain data, JSON when it is sent."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, replace
from datetime import datetime

from relay.errors import Refused
from relay.store.ledger import PREFIX
from relay.telemetry import Meter

CHANGES = "changes"  # a job's kind: its payload is a list of changes
CATCH_UP = "catch-up"  # … or says which changes to look for
WORKERS_PATIENCE = 20.0  # seconds that a message waits for its turn at first, twice as many whenever it comes again
LONGEST_PATIENCE = 120.0  # of the functionTimeout in host.json it leaves the larger part to the work
LONGEST_TYPE = 200  # characters of a content type; no type that is taken has as many

JOB_ID = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Job:
    """One body on its way: where its payload is (by id), how it was sent, how often it was tried, how many bytes it holds.

    `name` is the dropped file's name in container `bundles`, for the outcome beside it. `turned` counts how often it was
    turned away because others were in work. `kind` says what the payload is:
    `changes`, `catch-up`, or empty for a body as it was sent. `forward` is whether it goes to the FHIR server first.
    """

    id: str
    content_type: str = ""
    content_encoding: str = ""
    name: str = ""
    attempt: int = 0
    first: str = ""
    spent: tuple[int, int, int] = (0, 0, 0)
    size: int = 0
    turned: int = 0
    kind: str = ""
    forward: bool = False

    @property
    def patience(self) -> float:
        """Seconds to wait for a turn: the longer the oftener it was turned away, so that nobody is for ever."""
        return min(WORKERS_PATIENCE * 2.0 ** min(self.turned, 10), LONGEST_PATIENCE)

    def after(self, meter: Meter) -> Job:
        """Return the job with what its tries have cost so far: calls to Dataverse, to FHIR, milliseconds waited."""
        return replace(self, spent=(meter.dataverse, meter.fhir, meter.waits_ms))

    @property
    def tag(self) -> str:
        """The tag of every write of this job."""
        return PREFIX + self.id


def shortened(job: Job) -> Job:
    """Return the job with no more of its content type than counts: a header can be longer than a message."""
    return replace(job, content_type=job.content_type.partition(";")[0].strip()[:LONGEST_TYPE])


def dump_job(job: Job) -> str:
    """Write the message of a job."""
    return json.dumps(asdict(job), separators=(",", ":"))


def load_job(text: str) -> Job:
    """Read a message; raises Refused `bad-message`."""
    try:
        job = Job(**json.loads(text))
        datetime.fromisoformat(job.first)
    except (ValueError, TypeError) as error:
        raise Refused("not an inbound message", code="bad-message") from error
    if not JOB_ID.fullmatch(job.id):
        raise Refused("not an inbound message", code="bad-message")
    return job
