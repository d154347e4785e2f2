"""Wrong maps are refused with file, line, key and the valid choices. Each file in `bad/` is named after its hazard."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from relay.errors import MapError
from relay.mapping.load import load_maps

_ROOT = Path(__file__).parents[2]
_BAD = Path(__file__).parent / "bad"
_MARK = "# refused: "


def _folder(hazard: Path, folder: Path) -> list[tuple[Path, str]]:
    """Copy a hazard beside the shipped facts; return (file, what must be said of it)."""
    shutil.copy(_ROOT / "maps" / "metadata.json", folder / "metadata.json")
    expected = []
    for path in sorted(hazard.iterdir()) if hazard.is_dir() else [hazard]:
        copy = folder / path.name
        text = path.read_text(encoding="utf-8")
        copy.write_text(text, encoding="utf-8")
        if text.startswith(_MARK):
            expected.append((copy, text.splitlines()[0].removeprefix(_MARK)))
    return expected


@pytest.mark.parametrize("hazard", sorted(_BAD.iterdir()), ids=lambda path: path.stem)
def test_a_wrong_map_is_refused_naming_the_line_and_the_choices(hazard: Path, tmp_path: Path) -> None:
    """The message begins with file and line, and holds the part that stands in the file's first line."""
    expected = _folder(hazard, tmp_path)
    assert expected, "the first line of a bad map says what must be refused"
    with pytest.raises(MapError) as refused:
        load_maps(tmp_path)
    for path, part in expected:
        assert f"{path}:{part}" in str(refused.value)


def test_every_fault_of_a_folder_is_told_at_once(tmp_path: Path) -> None:
    """A person fixes a folder in one go."""
    for name in ("unknown_column", "copy_to_options"):
        _folder(_BAD / f"{name}.yaml", tmp_path)
    with pytest.raises(MapError) as refused:
        load_maps(tmp_path)
    assert "unknown column surname" in str(refused.value)
    assert "gendercode is of type Picklist" in str(refused.value)


def test_a_path_fault_shows_a_caret(tmp_path: Path) -> None:
    """The caret stands under the character that is wrong."""
    _folder(_BAD / "path_slice.yaml", tmp_path)
    with pytest.raises(MapError) as refused:
        load_maps(tmp_path)
    *_, path, caret = str(refused.value).splitlines()
    assert path[caret.index("^")] == ":"


@pytest.mark.parametrize(
    ("metadata", "part"),
    [
        (None, "cannot be read"),
        ("{", "is not JSON"),
        ("[]", "tables: must be an object"),
        ('{"tables": {"contact": {}}}', "tables.contact: lacks 'entitySet'"),
        (
            '{"tables": {"a": {"entitySet": "as", "primaryId": "i", "primaryName": "n", "columns": []}}}',
            "tables.a: has a fact of the wrong shape",
        ),
    ],
)
def test_wrong_facts_are_refused(metadata: str | None, part: str, tmp_path: Path) -> None:
    """metadata.json is checked as it is read."""
    if metadata is not None:
        (tmp_path / "metadata.json").write_text(metadata, encoding="utf-8")
    with pytest.raises(MapError, match=r"metadata\.json: ") as refused:
        load_maps(tmp_path)
    assert part in str(refused.value)


def test_a_folder_without_maps_is_refused(tmp_path: Path) -> None:
    """An empty folder is a mistake, not a configuration."""
    shutil.copy(_ROOT / "maps" / "metadata.json", tmp_path / "metadata.json")
    with pytest.raises(MapError, match="holds no maps"):
        load_maps(tmp_path)


@pytest.mark.parametrize(("content", "part"), [(b"\xff\xfe\x00", "is not UTF-8"), (b"{,}", "is not JSON")])
def test_an_unreadable_file_is_refused(content: bytes, part: str, tmp_path: Path) -> None:
    """What is neither UTF-8 nor JSON is named with its file."""
    shutil.copy(_ROOT / "maps" / "metadata.json", tmp_path / "metadata.json")
    (tmp_path / "patient.json").write_bytes(content)
    with pytest.raises(MapError, match=part):
        load_maps(tmp_path)
