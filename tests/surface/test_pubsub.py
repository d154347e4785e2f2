"""POST /fhir-hook/pubsub: Google's push, from the token to the identifier on the resource."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from surface_kit import OURS, Flaky, Surface, surface

from relay.errors import Transient
from relay.inbound.pubsub import CERTIFICATES, Certificates
from support.google import AUDIENCE, EMAIL, key_pair, token
from support.samples import patient

STORE = "projects/p/locations/l/datasets/d/fhirStores/s"
BELOW = f"/v1/{STORE}/fhir"
PUSH = {"pubsub_audience": AUDIENCE, "pubsub_email": EMAIL}


class Google(httpx.AsyncBaseTransport):
    """Gives certificates; notes what it was asked."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.asked: list[str] = []
        self.answers = list(answers)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(str(request.url))
        if self.answers:
            return self.answers.pop(0)
        return httpx.Response(200, json={"k1": key_pair()[1]}, headers={"Cache-Control": "public, max-age=20000"})


def message(fhir_id: str, action: str = "UpdateResource") -> bytes:
    name = base64.b64encode(f"{STORE}/fhir/Patient/{fhir_id}".encode()).decode()
    attributes = {"action": action, "resourceType": "Patient", "payloadType": "NameOnly"}
    return json.dumps({"message": {"attributes": attributes, "data": name, "messageId": "1"}}).encode()


async def push(it: Surface, body: bytes, given: str | None = None) -> httpx.Response:
    headers = {"Authorization": f"Bearer {given or token()}", "Content-Type": "application/json"}
    return await it.http.post("/api/fhir-hook/pubsub", content=body, headers=headers)


async def test_a_push_drives_the_main_job(tmp_path: Path) -> None:
    """202 once it is stored; the row is made, the GUID goes back, and messages twice or late change nothing more."""
    google = Google()
    async with surface(tmp_path, google=google, below=BELOW, **PUSH) as it:
        await it.put(patient(identifiers=1, gender="male"), patient("p2", identifiers=1))
        for each in (message("p1", "CreateResource"), message("p2"), message("p1")):
            assert (await push(it, each)).status_code == 202
        await it.put(patient(identifiers=1, gender="female"))
        await it.settle()
        systems = [each["system"] for each in (await it.read("Patient", "p1"))["identifier"]]
        assert systems == ["https://site.example/0", f"{OURS}patient.id"]
        assert sorted(row["gendercode"] for row in it.rows("contact")) == [2, 2]
        written = len(it.fhir.store.log)
        assert (await push(it, message("p1", "CreateResource"))).status_code == 202  # late: the server has a newer one
        await it.settle()
        assert len(it.fhir.store.log) == written
        assert await it.relay.dead_letters.list() == []
        assert google.asked == [CERTIFICATES]


async def test_a_type_without_a_map_and_another_store_are_200(tmp_path: Path) -> None:
    """There is nothing to keep, and nothing to be sent again."""
    async with surface(tmp_path, google=Google(), below=BELOW, **PUSH) as it:
        attributes = {"action": "UpdateResource", "resourceType": "Basic", "payloadType": "NameOnly"}
        for name in (f"{STORE}/fhir/Basic/1", f"{STORE}2/fhir/Basic/1"):
            data = base64.b64encode(name.encode()).decode()
            sent = json.dumps({"message": {"attributes": attributes, "data": data}}).encode()
            assert (await push(it, sent)).status_code == 200
        assert await it.kept() == []


TOKENS: list[tuple[Callable[[], str], int, str]] = [
    (lambda: "not.a.token", 401, "invalid-token"),
    (lambda: "no token", 401, "no-token"),
    (lambda: token(signed_by="somebody"), 401, "invalid-token"),
    (lambda: token(key_id="k2"), 401, "invalid-token"),
    (lambda: token(exp=1), 401, "invalid-token"),
    (lambda: token(iat=4_000_000_000), 401, "invalid-token"),
    (lambda: token(iss="https://evil.example"), 401, "invalid-token"),
    (lambda: token(exp=None), 401, "invalid-token"),
    (lambda: token(aud="https://other.example"), 403, "wrong-audience"),
    (lambda: token(email="other@project.iam.gserviceaccount.com"), 403, "wrong-account"),
    (lambda: token(email_verified=False), 403, "wrong-account"),
    (lambda: token(email=None), 403, "wrong-account"),
]


async def test_only_the_subscriptions_own_token_is_taken(tmp_path: Path) -> None:
    """401 for what Google did not sign or signed for another time, 403 for another audience or account; nothing is kept."""
    async with surface(tmp_path, google=Google(), below=BELOW, **PUSH) as it:
        for make, status, code in TOKENS:
            answer = await push(it, message("p1"), make())
            assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (status, code)
            assert ("www-authenticate" in answer.headers) == (status == 401)
        head, claims, _ = token().split(".")
        none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT","kid":"k1"}').decode().rstrip("=")
        deep = base64.urlsafe_b64encode(b"[" * 9000).decode().rstrip("=")  # deeper than Python's own stack
        for forged in (f"{none}.{claims}.", f"{none}.{claims}.AA", f"{head}.{claims}.AA", f"{deep}.{claims}.AA"):
            assert (await push(it, message("p1"), forged)).status_code == 401
        assert (await it.http.post("/api/fhir-hook/pubsub", content=message("p1"))).status_code == 401
        assert await it.kept() == []


@pytest.mark.parametrize("settings", [{}, {"pubsub_audience": AUDIENCE}, {"pubsub_email": EMAIL}])
async def test_without_its_settings_nobody_may_push(
    tmp_path: Path, settings: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Half of them is none of them: 403, an error in the log that names them, and Google is not asked."""
    google = Google()
    async with surface(tmp_path, google=google, below=BELOW, settings=settings) as it:
        answer = await push(it, message("p1"))
        assert (answer.status_code, answer.json()["issue"][0]["details"]["text"]) == (403, "pubsub-not-set-up")
        assert "RELAY_PUBSUB_AUDIENCE and RELAY_PUBSUB_EMAIL are not both set" in caplog.text
        assert google.asked == []


async def test_google_or_the_store_away_asks_to_send_it_again(tmp_path: Path) -> None:
    """503 with Retry-After, and nothing is lost: the same message is taken afterwards."""
    google = Google(httpx.Response(503))
    flaky: list[Flaky] = []

    def wrap(store: Any) -> Flaky:
        flaky.append(Flaky(store))
        return flaky[0]

    async with surface(tmp_path, google=google, below=BELOW, wrap=wrap, **PUSH) as it:
        await it.put(patient())
        answer = await push(it, message("p1"))
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
        flaky[0].at = -1
        assert (await push(it, message("p1"))).status_code == 503
        flaky[0].at = None
        assert (await push(it, message("p1"))).status_code == 202
        await it.settle()
        assert len(it.rows("contact")) == 1


async def test_certificates_are_kept_and_looked_for_again() -> None:
    """For as long as Google says; an unknown key asks again, but not more often than once a minute."""
    time = [0.0]
    plain = httpx.Response(200, json={"k1": "one"})
    google = Google(httpx.Response(200, json={"k1": "one"}, headers={"Cache-Control": "max-age=300"}), plain)
    certificates = Certificates(google, lambda: time[0])
    for now, key_id, asked in (
        (0, "k1", 1),
        (59, "k2", 1),
        (299, "k1", 1),
        (300, "k1", 2),
        (301, "k2", 2),
        (361, "k2", 3),
    ):
        time[0] = now
        await certificates.knowing(key_id)
        assert len(google.asked) == asked, now


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(302, headers={"Location": "https://evil.example/certs"}),
        httpx.Response(200, text="<html>"),
        httpx.Response(200, json=[]),
        httpx.Response(200, json={}),
        httpx.Response(200, json={"k1": 1}),
    ],
)
async def test_certificates_come_from_googles_address_alone(answer: httpx.Response) -> None:
    """A redirect is not followed, and what is no list of certificates is none."""
    google = Google(answer)
    with pytest.raises(Transient):
        await Certificates(google, lambda: 0.0).knowing("k1")
    assert google.asked == [CERTIFICATES]
