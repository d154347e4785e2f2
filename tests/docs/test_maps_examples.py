"""The YAML on the pages about maps loads, or is refused with the words that stand below it."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
import yaml
from fenced import ROOT, Block, blocks

from relay.errors import MapError
from relay.mapping.load import load_maps

PAGES = ("maps", "element-paths", "map-values", "references-and-concepts", "expansions", "both-ways")
BESIDE = ("metadata.json", "patient.yaml", "practitioner.yaml", "organization.yaml", "location.yaml")
OF_A_FILE = re.compile(r"^\S+:\d+: ", re.MULTILINE)


def examples() -> dict[str, tuple[Block, str]]:
    """Return the YAML blocks by page and number, with what is said of those that are refused.

    A block is a whole map, or `yaml Type`: what goes into the map of that type; `refused` says that it does not load.
    """
    found: dict[str, tuple[Block, str]] = {}
    for page in PAGES:
        listed = blocks(f"docs/{page}.md")
        for number, block in enumerate(listed):
            if block.language == "yaml":
                said = listed[number + 1].text if "refused" in block.mark else ""
                found[f"{page}-{number}"] = (block, said)
    return found


EXAMPLES = examples()


def folder_with(block: Block, folder: Path) -> Path:
    """Put the block into a folder of some shipped maps, in place of the map of its type."""
    for name in BESIDE:
        shutil.copy(ROOT / "maps" / name, folder)
    kind = block.mark.split()[0] if block.mark else yaml.safe_load(block.text)["resource"]
    file = folder / f"{kind.lower()}.yaml"
    shipped = yaml.safe_load((ROOT / "maps" / file.name).read_text(encoding="utf-8"))
    if not block.mark:
        file.write_text(block.text, encoding="utf-8")
        return folder
    keys = ("resource", "table", "where", "key", "identifier")
    given = yaml.safe_load(block.text)
    top = {key: shipped[key] for key in keys if key in shipped and key not in given}
    lines = "attributes:\n" if isinstance(given, list) else ""
    # JSON is YAML, and what follows stands in lines of its own
    head = "\n".join(f"{key}: {json.dumps(value)}" for key, value in top.items())
    file.write_text(f"{head}\n{lines}{block.text}", encoding="utf-8")
    return folder


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_is_what_the_page_says(name: str, tmp_path: Path) -> None:
    """It loads beside the shipped maps; one that is refused is refused with these words."""
    block, said = EXAMPLES[name]
    folder = folder_with(block, tmp_path)
    if said:
        with pytest.raises(MapError) as refused:
            load_maps(folder)
        assert OF_A_FILE.sub("", said.strip()) == OF_A_FILE.sub("", str(refused.value))
    else:
        load_maps(folder)


def test_there_are_examples_of_both_kinds() -> None:
    """A page whose blocks are not found would pass unseen."""
    assert len(EXAMPLES) > 15
    assert sum(1 for _, said in EXAMPLES.values() if said) > 1
