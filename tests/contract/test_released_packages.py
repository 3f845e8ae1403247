"""Every package format that was released is still taken, and its model still gives the same answers.

A new format adds a file to tests/data/packages; none is ever changed or removed.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from fakes.secret_store import InMemorySecretStore
from kepler.adapters.formats.safe import SafeModelFormats
from kepler.adapters.secrets.signer import Ed25519Signer
from kepler.adapters.secrets.trusted_keys import TrustedKeys
from kepler.adapters.storage import version_folder
from kepler.adapters.storage.package_files import PackageFiles
from kepler.core.outputs import NumberOutput
from kepler.core.records import NumberColumn, RecordBatch
from kepler.ports.serving import PredictOptions
from kepler.serving.loader import FolderModelLoader
from support.packages import RELEASED


def test_there_is_one_of_each_format() -> None:
    assert [path.name for path in sorted(RELEASED.glob("*.kepler"))] == ["linear_v1.kepler"]


@pytest.mark.parametrize("path", sorted(RELEASED.glob("*.kepler")), ids=lambda path: path.stem)
def test_it_is_taken_and_predicts(path: Path, tmp_path: Path) -> None:
    secrets = InMemorySecretStore()
    own = Ed25519Signer(secrets)
    trust = TrustedKeys(secrets, own)
    key = trust.add(path.with_suffix(".pem").read_bytes(), "released")
    incoming = PackageFiles(tmp_path / "imports", own, trust).receive()
    package = path.read_bytes()
    incoming.write(package)
    unpacked = incoming.unpack(len(package), hashlib.sha256(package).hexdigest())
    assert unpacked.key_id == key.key_id

    manifest = unpacked.manifest
    loader = FolderModelLoader(SafeModelFormats(), lambda folder: version_folder.verify_folder(folder, trust))
    model = loader.load(unpacked.folder, f"{manifest.name}@{manifest.version}")
    a, b = np.array([0.0, 7.0, 39.0]), np.array([0.0, 3.0, 4.0])
    batch = RecordBatch({"a": NumberColumn(a), "b": NumberColumn(b)}, 3)
    (output,) = model.predict(batch, PredictOptions()).outputs
    assert isinstance(output, NumberOutput)
    assert output.name == "predicted(y)"
    np.testing.assert_allclose(output.values, 2 * a - 3 * b + 1, atol=1e-9)
    incoming.close()
