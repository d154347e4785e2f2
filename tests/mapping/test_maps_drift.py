"""`relay maps check --from`: where an org's definitions are not what the maps rely on."""

from __future__ import annotations

import copy
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from mapping_kit import IDENTIFIER, TOP
from maps_kit import FACTS, PATIENT_TABLES, WHOLE, folder_of, relay

from relay.cli import main
from relay.mapping.drift import drift
from relay.mapping.outline import read_outlines
from support.served import org, served

LINES = """  - {column: gendercode, map: $.gender, values: {male: 1, female: 2}}
  - {column: birthdate, copy: $.birthDate}
  - {column: creditlimit, copy: $.credit}
  - {column: msemr_generalpractioner, reference: $.gp, targets: {Patient: contact}}
"""
GENDERS = FACTS["tables"]["contact"]["columns"]["gendercode"]["options"]
OURS = {name: FACTS["tables"][name] for name in PATIENT_TABLES}


def against(folder: Path, change: Any, *texts: str) -> list[tuple[str, str, str]]:
    """Compare with an org that differs by one change; gives (severity, code, at)."""
    live = copy.deepcopy(OURS)
    change(live)
    folder_of(folder, *(texts or (WHOLE + LINES,)))
    return [(each.severity, each.code, each.at) for each in drift(read_outlines(folder), OURS, live)]


def column(table: str, name: str, **facts: Any) -> Any:
    """Return a change of one column's facts in the org."""
    return lambda live: live[table]["columns"].setdefault(name, {"type": "String"}).update(facts)


def test_an_org_as_the_facts_say_leaves_nothing_to_tell(tmp_path: Path) -> None:
    """The same facts on both sides are no drift."""
    assert against(tmp_path, lambda _: None) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda live: live.pop("contact"), ("error", "missing-table", "contact")),
        (lambda live: live["contact"].update(entitySet="people"), ("error", "different-entityset", "contact")),
        (lambda live: live["contact"].update(primaryName="x"), ("information", "different-primaryname", "contact")),
        (
            lambda live: live["contact"].update(optimisticConcurrency=False),
            ("warning", "different-optimisticconcurrency", "contact"),
        ),
        (lambda live: live["contact"]["columns"].pop("lastname"), ("error", "missing-column", "contact.lastname")),
        (column("contact", "lastname", type="Boolean"), ("error", "different-type", "contact.lastname")),
        (column("contact", "lastname", type="Memo"), ("information", "different-type", "contact.lastname")),
        (column("contact", "lastname", maxLength=20), ("warning", "different-maxlength", "contact.lastname")),
        (column("contact", "lastname", maxLength=200), ("information", "different-maxlength", "contact.lastname")),
        (column("contact", "birthdate", format="DateAndTime"), ("error", "different-format", "contact.birthdate")),
        (column("contact", "creditlimit", precision=2), ("warning", "different-precision", "contact.creditlimit")),
        (column("contact", "creditlimit", min=5), ("warning", "different-min", "contact.creditlimit")),
        (column("contact", "creditlimit", max=10**18), ("information", "different-max", "contact.creditlimit")),
        (
            column("contact", "gendercode", options=[each for each in GENDERS if each[0] != 2]),
            ("error", "missing-option", "contact.gendercode"),
        ),
        (
            column("contact", "gendercode", options=[*GENDERS, [7, "X"]]),
            ("information", "new-option", "contact.gendercode"),
        ),
        (
            column("contact", "msemr_generalpractioner", navigation={"contact": "msemr_GP"}),
            ("error", "different-navigation", "contact.msemr_generalpractioner"),
        ),
        (
            column("contact", "msemr_generalpractioner", navigation={}),
            ("warning", "missing-target", "contact.msemr_generalpractioner"),
        ),
        (column("contact", "new_must", required="systemrequired"), ("error", "system-required", "contact.new_must")),
        (
            column("prefix_patientidentifier", "prefix_value", maxLength=100),
            ("warning", "different-maxlength", "prefix_patientidentifier.prefix_value"),
        ),
    ],
    ids=lambda value: f"{value[1]}-{value[0]}" if isinstance(value, tuple) else "",
)
def test_what_differs_and_how_bad_it_is(change: Any, told: tuple[str, str, str], tmp_path: Path) -> None:
    """What makes writes fail is an error, what may for some values a warning, the rest is information."""
    assert against(tmp_path, change) == [told]


def test_columns_that_no_map_names_are_not_compared(tmp_path: Path) -> None:
    """An org has hundreds of columns; only those that maps rely on count, and only tables of enabled maps."""
    assert against(tmp_path, column("contact", "anniversary", type="Boolean")) == []
    assert against(tmp_path, column("contact", "new_free", required="required")) == []
    assert against(tmp_path, lambda live: live.clear(), f"disabled: true\n{WHOLE}") == []


def test_constants_are_options_too(tmp_path: Path) -> None:
    """What `where`, `default` and `beside` write must be options of the org, and a child's columns count."""
    text = (
        f"where: {{msemr_contacttype: 935000000}}\n{TOP}attributes:\n"
        "  - {column: gendercode, default: 1}\n"
        "  - {column: nickname, copy: $.n, beside: {familystatuscode: 2}}\n"
        "  - {expand: identifier, table: prefix_patientidentifier, lookup: prefix_patient, attributes: []}\n"
    )

    def change(live: dict[str, Any]) -> None:
        for name in ("msemr_contacttype", "gendercode", "familystatuscode"):
            live["contact"]["columns"][name]["options"] = []
        del live["prefix_patientidentifier"]["columns"]["prefix_patient"]

    assert against(tmp_path, change, text) == [
        ("error", "missing-option", "contact.msemr_contacttype"),
        ("error", "missing-option", "contact.gendercode"),
        ("error", "missing-option", "contact.familystatuscode"),
        ("error", "missing-column", "prefix_patientidentifier.prefix_patient"),
    ]


def test_a_table_without_facts_is_left_to_loading(tmp_path: Path) -> None:
    """The maps do not load then, which says more."""
    folder = folder_of(tmp_path, WHOLE.replace("table: contact", "table: lead"))
    assert list(drift(read_outlines(folder), OURS, {**OURS, "lead": OURS["contact"]})) == []


def test_concepts_rely_on_their_table(tmp_path: Path) -> None:
    """A concept line reads and writes the codeable concept table."""
    text = "resource: Encounter\ntable: contact\nkey: msemr_azurefhirid\nattributes:\n  - {column: a, concept: $.b, type: 1}\n"
    found = against(tmp_path, column("msemr_codeableconcept", "msemr_code", maxLength=5), text)
    assert ("warning", "different-maxlength", "msemr_codeableconcept.msemr_code") in found


def test_check_reads_the_org(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """--from compares over the wire; a difference that breaks writes fails the check, with the line of the map."""
    monkeypatch.setenv("RELAY_DATAVERSE_AUTH", "none")
    ours = folder_of(tmp_path / "ours", WHOLE)
    theirs = folder_of(tmp_path / "theirs", contact__lastname={"maxLength": 10}, contact__new_x={"type": "String"})
    with org(ours / "metadata.json") as url:
        assert relay("maps", "check", ours, "--from", url, "--strict") == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings, 0 informations\n"
    with org(theirs / "metadata.json") as url:
        assert relay("maps", "check", ours, "--from", url) == 0
        assert relay("maps", "check", ours, "--from", url, "--strict") == 1
    out = capsys.readouterr().out
    line = next(number for number, text in enumerate(WHOLE.splitlines(), 1) if "lastname" in text)
    assert (
        f"{ours / 'map0.yaml'}:{line}: warning: different-maxlength: "
        "maxLength of contact.lastname is 10 in the org; metadata.json says 50" in out
    )


def test_an_address_without_an_org_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is no org is an error, not an org without tables."""
    monkeypatch.setenv("RELAY_DATAVERSE_AUTH", "none")

    async def nobody(_: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 404, "headers": []})
        await send({"type": "http.response.body", "body": b"not here"})

    with served(lambda: nullcontext(nobody)) as url:
        assert relay("maps", "check", folder_of(tmp_path, WHOLE), "--from", url) == 1
    assert capsys.readouterr().err.startswith("relay maps check: Dataverse answered 404")


def test_facts_that_cannot_be_compared_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without readable facts the org is not asked, and the check has failed already."""
    folder = folder_of(tmp_path, TOP + IDENTIFIER)
    (folder / "metadata.json").write_text("{", encoding="utf-8")
    assert main(["maps", "check", str(folder), "--from", "http://127.0.0.1:9", "--json"]) == 1
    out, err = capsys.readouterr()
    assert "metadata.json cannot be compared" in err
    assert [each["code"] for each in json.loads(out)["findings"]] == ["fault"]
