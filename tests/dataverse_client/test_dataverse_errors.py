"""What an error of Dataverse means is decided by its code, and its text never leaves the answer."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from relay.dataverse.errors import (
    DataverseBusy,
    DataverseError,
    DataverseMissing,
    DataverseRace,
    DataverseRefusal,
    classify,
    normalise_code,
    read_error,
    read_retry_after,
)
from relay.errors import Race, Terminal, Transient


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (412, "0x80060882", "race"),
        (412, "0x80040237", "race"),
        (412, "0x80060892", "race"),
        (412, "0x80040333", "terminal"),
        (412, "", "terminal"),
        (404, "0x80040217", "missing"),
        (404, "0x80060891", "missing"),
        (400, "0x80060891", "missing"),
        (404, "0x80060888", "terminal"),
        (404, "", "terminal"),
        (429, "0x80072322", "transient"),
        (429, "0x80072321", "transient"),
        (429, "0x80072326", "transient"),
        (429, "0x80071151", "transient"),
        (500, "0x80044151", "transient"),
        (500, "", "transient"),
        (500, "0x80040265", "terminal"),
        (408, "", "transient"),
        (502, "", "transient"),
        (503, "", "transient"),
        (504, "", "transient"),
        (501, "", "terminal"),
        (401, "", "transient"),
        (403, "0x80040220", "terminal"),
        (400, "0x80048d19", "terminal"),
    ],
)
def test_codes_decide(status: int, code: str, kind: str) -> None:
    """Each code has one meaning, whatever the status; a status counts only where the code says nothing."""
    assert classify(status, code).kind == kind


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (
            "Sql error: Generic SQL error. CRM ErrorCode: -2147204784 Sql ErrorCode: -2146232060 Sql Number: 1205",
            "transient",
        ),
        ("Sql Number: -2", "transient"),
        ("Transaction was deadlocked on lock resources: deadlock victim", "transient"),
        ("Sql Number: 2627", "terminal"),
        ("Sql Number: -2146232060", "terminal"),
    ],
)
def test_sql_trouble_is_told_by_its_number(text: str, kind: str) -> None:
    """A deadlock (1205) and a SQL time-out (-2) are worth another try; other SQL errors are not."""
    error = read_error(500, {}, {"error": {"code": "0x80044150", "message": text}})
    assert error.kind == kind


def test_classes_say_what_to_do() -> None:
    """Each kind is a relay error that says what the caller must do."""
    assert issubclass(DataverseRace, Race)
    assert issubclass(DataverseMissing, Terminal)
    assert issubclass(DataverseRefusal, Terminal)
    assert issubclass(DataverseBusy, Transient)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"error": {"code": "0x80060882", "message": "secret"}}, "0x80060882"),
        ({"error": {"code": "0X80048D19", "message": "secret"}}, "0x80048d19"),
        ({"Message": "secret", "ExceptionMessage": "secret", "ErrorCode": -2147015902}, "0x80072322"),
        ({"Message": "secret", "ErrorCode": "-2147088254"}, "0x80060882"),
        ({"Message": "secret", "ErrorCode": "0x80060882"}, "0x80060882"),
        ({"error": {"code": "", "message": "secret"}}, "http-400"),
        ({"error": "secret"}, "http-400"),
        ("secret", "http-400"),
        (["secret"], "http-400"),
        (None, "http-400"),
    ],
)
def test_both_shapes_are_read_and_no_text_is_kept(body: object, code: str) -> None:
    """The code is read from either shape of body; the server's text is nowhere in the error."""
    error = read_error(400, {"x-ms-service-request-id": "1f0c-22"}, body)
    assert error.code == code
    assert error.request_id == "1f0c-22"
    assert "[request 1f0c-22]" in str(error)
    assert "secret" not in f"{error!r} {error} {vars(error)}"


def test_the_message_names_the_code() -> None:
    """A known code is named, an unknown one shown, none left out."""
    assert str(DataverseError(412, "0x80060882")) == "Dataverse answered 412 ConcurrencyVersionMismatch (0x80060882)"
    assert str(DataverseError(400, "0x80001234")) == "Dataverse answered 400 0x80001234"
    assert str(DataverseError(503)) == "Dataverse answered 503"


def test_a_text_too_long_names_the_column() -> None:
    """The logical name of a column whose text is too long is kept: it is no patient data."""
    message = (
        "A validation error occurred.  The length of the 'msemr_title' attribute of the 'msemr_careplan' entity "
        "exceeded the maximum allowed length of '100'."
    )
    error = read_error(400, {}, {"error": {"code": "0x80044331", "message": message}})
    assert error.column == "msemr_title"
    assert str(error).endswith("for column msemr_title")
    assert read_error(400, {}, {"error": {"code": "0x80040203", "message": message}}).column == ""


@pytest.mark.parametrize("code", ["Unauthorized", "", None, True, 1.5, "0x", "0x123456789", [], "12345678901"])
def test_other_codes_are_no_codes(code: object) -> None:
    """What is neither hex nor a decimal number is not a code."""
    assert normalise_code(code) == ""


def test_a_strange_request_id_is_left_out() -> None:
    """A request id is shown only if it looks like one."""
    assert read_error(400, {"req_id": "a b\r\n"}, None).request_id == ""
    assert read_error(400, {"req_id": "a-1"}, None).request_id == "a-1"


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("7", 7.0), ("1.5", 1.5), (" 3 ", 3.0), ("", None), ("soon", None), ("-1", None), ("9" * 30, None)],
)
def test_retry_after_in_seconds(text: str, seconds: float | None) -> None:
    """Seconds are taken as they are; nonsense is as good as absent."""
    assert read_retry_after({"retry-after": text}) == seconds


def test_retry_after_as_a_date() -> None:
    """An HTTP date counts from now, and one that has passed means at once."""
    now = datetime.now(UTC)
    later = read_retry_after({"retry-after": format_datetime(now + timedelta(hours=1), usegmt=True)})
    assert later is not None
    assert 3500 < later <= 3600
    assert read_retry_after({"retry-after": format_datetime(now - timedelta(hours=1), usegmt=True)}) == 0.0
    assert read_retry_after({"retry-after": "Wed, 21 Oct 2015 07:28:00"}) == 0.0
    assert read_retry_after({}) is None
