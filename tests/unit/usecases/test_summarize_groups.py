"""The list of groups as a view of a model."""

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from fakes.manifests import make_manifest
from kepler.adapters.storage.version_folder import read_listed
from kepler.core.errors import Conflict, InvalidInput
from kepler.core.group_table import GROUP_LIST, GroupTable, Place
from kepler.core.groups import Groups
from kepler.core.manifest import FileEntry
from kepler.core.names import ModelName
from kepler.core.versions import VersionRecord
from kepler.usecases.summarize import SummarizeModel

TABLE = GroupTable(
    ("host",), (("a", "b"),), (5, 3), "r2", (0.5, None), ("", "too few rows"), (0, -1), (Place(), Place())
)


def house(folder: Path, *, grouped: bool = True) -> tuple[SummarizeModel, VersionRecord]:
    content = TABLE.to_bytes()
    (folder / GROUP_LIST).write_bytes(content)
    entry = FileEntry(hashlib.sha256(content).hexdigest(), len(content))
    manifest = make_manifest()
    if grouped:
        files = {**manifest.files, GROUP_LIST: entry}
        manifest = replace(manifest, groups=Groups(("host",), 1, 1), files=files)

    def read_groups(where: Path, given: object) -> GroupTable:
        return GroupTable.from_bytes(read_listed(where, manifest, GROUP_LIST))

    record = VersionRecord(
        name=ModelName.parse("app.search/m"), version=1, folder=str(folder), manifest_sha256=""
    )
    return SummarizeModel(lambda where: manifest, read_groups), record


def test_one_row_for_each_group(tmp_path: Path) -> None:
    summarize, version = house(tmp_path)
    table = summarize.table(version, "groups", 0)
    assert table.columns == ("host", "rows", "r2", "state", "reason")
    assert table.rows == (("a", "5", "0.5", "trained", ""), ("b", "3", "", "failed", "too few rows"))
    assert summarize.table(version, "groups", 1).rows == table.rows[:1]
    assert ("host", "group", "text", "", "") in summarize.table(version, "schema", 0).rows


def test_a_model_without_groups_says_so(tmp_path: Path) -> None:
    summarize, version = house(tmp_path, grouped=False)
    with pytest.raises(InvalidInput, match="was not trained by groups"):
        summarize.table(version, "groups", 0)


@pytest.mark.parametrize("spoil", ["change", "remove"])
def test_a_list_that_is_not_the_signed_one_is_refused(tmp_path: Path, spoil: str) -> None:
    summarize, version = house(tmp_path)
    path = tmp_path / GROUP_LIST
    if spoil == "change":
        path.write_bytes(path.read_bytes().replace(b'"a"', b'"x"'))
    else:
        path.unlink()
    with pytest.raises(Conflict, match="not as it was signed"):
        summarize.table(version, "groups", 0)


def test_a_file_that_the_manifest_does_not_list_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Conflict, match="lists no"):
        read_listed(tmp_path, make_manifest(), GROUP_LIST)
