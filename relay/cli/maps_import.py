"""Turn maps exported from the Data integration toolkit into map files, and tell what became of every row."""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relay.cli.maps_files import MAPS
from relay.errors import MapError, Unsupported

if TYPE_CHECKING:
    from relay.mapping.toolkit.convert import Converted
    from relay.mapping.toolkit.records import Records

_WORKBOOKS = (".xlsx", ".xlsm")


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "files", nargs="+", type=Path, metavar="FILE", help="rows of the toolkit's tables: Web API JSON or Excel export"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for the map files")
    parser.add_argument("--force", action="store_true", help="overwrite map files that are there")
    parser.add_argument("--maps", type=Path, default=MAPS, metavar="DIR", help="folder with metadata.json, the facts")
    parser.add_argument(
        "--column",
        dest="columns",
        action="append",
        type=_column,
        default=[],
        metavar="NAME=LOGICALNAME",
        help="a column by its name on the form, and what the export calls it",
    )


def run(options: argparse.Namespace) -> int:
    """Write the maps and print the report; 1 if anything was not carried or does not load, 2 for wrong use."""
    from relay.mapping.metadata import METADATA_FILE, load_metadata
    from relay.mapping.toolkit.columns import field_named
    from relay.mapping.toolkit.convert import convert, unknown_names
    from relay.mapping.toolkit.records import Records

    records = Records()
    for path in options.files:
        if (wrong := _read(path, records)) is not None:
            return _wrong_use(wrong)
    names = dict(options.columns)
    if problems := unknown_names(names, records):
        return _wrong_use("\n".join(f"--column {each}" for each in problems))
    facts = options.maps / METADATA_FILE
    named = {key: column for name, column in names.items() if (key := field_named(name)) is not None}
    converted = convert(records, load_metadata(facts), named)
    taken = [str(options.out / name) for name in converted.texts if (options.out / name).exists()]
    if taken and not options.force:
        return _wrong_use(f"{', '.join(taken)}: there already, and only --force overwrites")
    options.out.mkdir(parents=True, exist_ok=True)
    for name, text in converted.texts.items():
        (options.out / name).write_text(text, encoding="utf-8")
    if converted.texts and not (options.out / METADATA_FILE).exists():
        shutil.copyfile(facts, options.out / METADATA_FILE)  # a folder of maps has its facts with it
    _load(converted, facts, options.out)
    report = converted.report
    if options.json:
        print(json.dumps(report.to_json(), indent=1))
    else:
        print("\n".join(report.to_text()))
    return 0 if report.whole else 1


def _column(text: str) -> tuple[str, str]:
    name, equals, column = text.partition("=")
    if not (name.strip() and equals and column.strip()):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=LOGICALNAME, such as Expand=msind_expand")
    return name.strip(), column.strip()


def _wrong_use(why: str) -> int:
    print(f"relay maps import: {why}", file=sys.stderr)
    return 2


def _read(path: Path, records: Records) -> str | None:
    """Read one file of the export; return why it cannot be one. Raises OSError, MapError, and Unsupported."""
    if path.suffix.lower() in _WORKBOOKS:
        _read_workbook(path, records)
    elif path.suffix.lower() == ".json":
        try:
            records.add_json(json.loads(path.read_text(encoding="utf-8-sig")), path.name)
        except ValueError as error:
            raise MapError(f"{path}: is not JSON: {error}") from None
    else:
        return f"{path}: is no export (valid: .json, {', '.join(_WORKBOOKS)})"
    return None


def _read_workbook(path: Path, records: Records) -> None:
    """Read every sheet of a workbook that holds rows of a toolkit table."""
    try:
        openpyxl: Any = import_module("openpyxl")
    except ModuleNotFoundError:
        raise Unsupported(
            f"{path}: reading Excel files needs the extra excel: .venv/bin/pip install -e '.[excel]'"
        ) from None
    content = path.open("rb")
    with content, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of drop-down lists and styles that it does not know
        try:
            workbook = openpyxl.load_workbook(content, data_only=True)
        except Exception as error:  # noqa: BLE001 - it raises what zip, XML and its own parts raise
            raise MapError(f"{path}: is no Excel workbook: {type(error).__name__}") from None
    for sheet in workbook.worksheets:
        records.add_sheet(sheet.iter_rows(values_only=True), path.name, sheet.title)


def _load(converted: Converted, facts: Path, out: Path) -> None:
    """Load what was written beside the facts, and add what the loader says to the report."""
    from relay.mapping.document import read_document
    from relay.mapping.load import load_maps
    from relay.mapping.toolkit.convert import blame

    if not converted.texts:
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shutil.copyfile(facts, folder / facts.name)
        for file, text in converted.texts.items():
            (folder / file).write_text(text, encoding="utf-8")
        try:
            load_maps(folder)
        except MapError as error:
            lines = {file: read_document(folder / file).lines for file in converted.texts}
            blame(converted, lines, str(error).replace(str(folder), str(out)))
