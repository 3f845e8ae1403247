"""Models that are damaged, hostile or bad: refused before they serve, and the one before goes on serving."""

import json
import random
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from kepler.adapters.formats.graph import ALLOWED as SERVICE_ALLOWED
from kepler.adapters.storage.version_folder import MANIFEST, SIGNATURE, measure, seal
from kepler.core.golden import GoldenVectors
from kepler.core.manifest import Manifest
from kepler.core.names import ModelName
from kepler_edge.errors import Refused
from kepler_edge.model import LoadedModel
from kepler_edge.onnx_graph import ALLOWED, check_graph
from kepler_edge.release_doc import Release
from kepler_edge.selftest import SelfTest
from support.edge_models import KINDS, Signing, draft, registered, release_document, sample_rows
from support.edge_releases import AlwaysGood, Device

ROW = sample_rows(1, seed=9)[0]


@pytest.fixture(scope="module")
def signing():
    return Signing.fresh()


def mutated(data: bytes, rng: random.Random) -> bytes:
    """Damage as flash and lines make it: cut off, a bit, 64 bytes of zeros, a page of noise."""
    kind = rng.choice(["cut", "bit", "bit", "zeros", "page"])
    at = rng.randrange(len(data))
    if kind == "cut":
        return data[:at]
    out = bytearray(data)
    if kind == "bit":
        out[at] ^= 1 << rng.randrange(8)
    elif kind == "zeros":
        out[at : at + 64] = bytes(len(out[at : at + 64]))
    else:
        out[at : at + 4096] = rng.randbytes(len(out[at : at + 4096]))
    return bytes(out)


def damaged_ones(kind, count, signing, tmp_path):
    """Damage to the model, the manifest or the signature, half of it with the damaged file's hash in the release."""
    rng = random.Random(kind)
    device = Device(tmp_path, signing, selftest=AlwaysGood)
    # Another kind: a sound file that the device holds already would be copied, and the damaged one never fetched.
    device.install(device.version("r1", "mlp" if kind == "linear" else "linear"))
    before = device.releases.serving()["app.search/m"]
    answer = before.score(ROW).out
    for number in range(count):
        release = f"bad-{number}"
        document = device.version(release, kind, version=2)
        folder = device.fetch.folders[release]
        name = rng.choice(["model.onnx", "model.onnx", MANIFEST, SIGNATURE])
        original = (folder / name).read_bytes()
        while (damaged := mutated(original, rng)) == original:
            continue  # zeros over zeros are no damage
        (folder / name).write_bytes(damaged)
        described = number % 2 == 0  # whether the release names the damaged file, as a forger would
        if described and damaged:
            document = described_again(document, folder, name)
        device.releases.desired([document])
        device.run(score=False, idle_s=100_000)  # what is cut off is waited for, up to the deadline
        assert device.state(release) == "refused", (name, number)
        assert device.reason(release)
        assert device.releases.serving()["app.search/m"] is before
        assert before.score(ROW).out == answer
    device.restart()
    assert device.releases.serving()["app.search/m"].score(ROW).out == answer


def described_again(document, folder: Path, name: str):
    """The release as one that forges hashes but cannot sign would write it."""
    import hashlib

    content = (folder / name).read_bytes()
    entry = {"path": name, "sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    if name == MANIFEST:
        return {**document, "manifest": entry}
    if name == SIGNATURE:
        return {**document, "signature": entry}
    return {**document, "files": [entry]}


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_packages_never_serve(kind, signing, tmp_path):
    damaged_ones(kind, 12, signing, tmp_path)


@pytest.mark.full
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("kind", KINDS)
def test_150_damaged_packages_never_serve(kind, signing, tmp_path):
    damaged_ones(kind, 150, signing, tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_damage_that_was_signed_is_refused_or_changes_no_answer(kind, signing, tmp_path):
    """A damaged graph under a sound hash and signature: graph check, load and golden answers are what is left."""
    rng = random.Random(7)
    refused, count = 0, 25
    folder = tmp_path / "m"
    registered(draft(kind), folder, signing, version=1)
    sound = LoadedModel.load(folder, signing.trust)
    golden = sound.golden_matrix()
    original = (folder / "model.onnx").read_bytes()
    for _ in range(count):
        (folder / "model.onnx").write_bytes(mutated(original, rng))
        manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
        seal(
            folder,
            manifest.completed(name=ModelName.parse("app.search/m"), version=1, files=measure(folder)),
            signing.signer,
        )
        try:
            model = LoadedModel.load(folder, signing.trust)
        except Refused:
            refused += 1
            continue
        for key, values in model.raw(golden).items():
            np.testing.assert_allclose(values, sound.raw(golden)[key], rtol=1e-4, atol=1e-4)
    assert refused > count // 3


def test_a_replayed_older_manifest_a_truncated_and_an_oversized_file_are_refused(signing, tmp_path):
    device = Device(tmp_path, signing, selftest=AlwaysGood)
    old = device.version("r1", "linear", version=1)
    device.install(old)
    device.install(device.version("r2", "mlp", version=2))
    # The old version's files under the new version's number.
    device.fetch.folders["replay"] = device.fetch.folders["r1"]
    device.install({**old, "id": "replay", "version": 3})
    assert "app.search/m@1, not app.search/m@3" in device.reason("replay")
    short = device.version("short", "linear", version=4)
    model = device.fetch.folders["short"] / "model.onnx"
    whole = model.read_bytes()
    model.write_bytes(whole[: len(whole) // 2])
    device.releases.desired([short])
    device.run(idle_s=100_000)
    assert "longer than" in device.reason("short")
    long = device.version("long", "linear", version=5)
    (device.fetch.folders["long"] / "model.onnx").write_bytes(whole + b"x" * 100)
    device.install(long)
    assert device.state("long") == "refused"
    assert "More came" in device.reason("long")
    assert device.version_now == 2


def graph(nodes, *, width=2, opset=17, initializers=(), domain="", out_shape=("n",), ints=False):
    kind = TensorProto.INT64 if ints else TensorProto.DOUBLE
    given = helper.make_tensor_value_info("x", TensorProto.DOUBLE, ["n", width])
    gives = helper.make_tensor_value_info("value", kind, list(out_shape))
    made = helper.make_graph(nodes, "g", [given], [gives], list(initializers))
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def test_the_agent_runs_every_operator_that_the_service_writes():
    assert SERVICE_ALLOWED <= ALLOWED
    quantised = {("", "QuantizeLinear"), ("", "DequantizeLinear"), ("", "Gemm")}
    assert quantised >= ALLOWED - SERVICE_ALLOWED


def test_graphs_that_reach_beyond_themselves_are_refused():
    tensor = helper.make_tensor("w", TensorProto.DOUBLE, [2, 1], [1.0, 2.0])
    outside = helper.make_tensor("w", TensorProto.DOUBLE, [2, 1], [1.0, 2.0])
    outside.data_location = TensorProto.EXTERNAL
    entry = outside.external_data.add()
    entry.key, entry.value = "location", "../../etc/passwd"
    matmul = helper.make_node("MatMul", ["x", "w"], ["value"])
    inner = helper.make_graph([], "inner", [], [])
    cases = {
        "another file": graph([matmul], initializers=[outside]),
        "needs operators of 'evil'": graph(
            [helper.make_node("Do", ["x"], ["value"], domain="evil")], domain="evil"
        ),
        "Loop is not allowed": graph([helper.make_node("Loop", ["x"], ["value"], body=inner)]),
        "nested graphs": graph([helper.make_node("Identity", ["x"], ["value"], body=inner)]),
        "needs version 99": graph([matmul], initializers=[tensor], opset=99),
    }
    for reason, model in cases.items():
        with pytest.raises(Refused, match=reason):
            check_graph(model.SerializeToString())
    check_graph(graph([matmul], initializers=[tensor]).SerializeToString())
    for junk in (b"", b"\x00", b"\xff" * 100, b"PK\x03\x04", b"\x3a\x80\x80\x80\x80\x08"):
        with pytest.raises(Refused):
            check_graph(junk)
    with pytest.raises(Refused, match="at most"):
        check_graph(bytes(11), max_bytes=10)


def regression(folder: Path, model, signing, *, golden=(1.0,), version=2, inputs=((1.0, 2.0),)):
    """A signed version whose graph is not what training wrote."""
    import shutil

    from support.edge_models import train

    if not hasattr(regression, "draft"):
        regression.draft = train("LinearRegression", "value", fields=("a", "b"))
    shutil.copytree(regression.draft, folder, dirs_exist_ok=True)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    manifest = Manifest.from_json((folder / MANIFEST).read_bytes())
    from dataclasses import replace

    vectors = GoldenVectors(inputs, {"value": tuple((cell,) for cell in golden)})
    manifest = replace(manifest, golden=vectors).completed(
        name=ModelName.parse("app.search/m"), version=version, files=measure(folder)
    )
    seal(folder, manifest, signing.signer)
    return release_document(folder, release="bad", limits={"max_rss_mb": 400, "max_latency_ms": 20})


def constant(name, values, shape, kind=TensorProto.DOUBLE):
    return helper.make_tensor(name, kind, shape, values)


def bad_models():
    one = constant("one", [1.0, 0.0], [2, 1])
    flat = constant("flat", [-1], [1], TensorProto.INT64)
    column = helper.make_node("MatMul", ["x", "one"], ["c"])
    last = helper.make_node("Reshape", ["s", "flat"], ["value"])
    many = 12_000
    spread = constant("spread", [0] * many, [many], TensorProto.INT64)
    tall = constant("tall", [many, 1], [2], TensorProto.INT64)
    wide = constant("wide", [1, many], [2], TensorProto.INT64)
    axes = constant("axes", [0, 1], [2], TensorProto.INT64)
    blow = [
        column,
        helper.make_node("Gather", ["c", "spread"], ["row"], axis=1),
        helper.make_node("Reshape", ["row", "tall"], ["t"]),
        helper.make_node("Reshape", ["row", "wide"], ["w"]),
        helper.make_node("MatMul", ["t", "w"], ["m"]),  # 12,000 x 12,000 doubles: 1.1 GB
        helper.make_node("ReduceSum", ["m", "axes"], ["s"], keepdims=1),
        last,
    ]
    small = 700
    loop = [
        column,
        helper.make_node("Gather", ["c", "spread7"], ["row"], axis=1),
        helper.make_node("Reshape", ["row", "tall7"], ["t"]),
        helper.make_node("Reshape", ["row", "wide7"], ["w"]),
        helper.make_node("MatMul", ["t", "w"], ["m0"]),
        *[helper.make_node("MatMul", [f"m{at}", f"m{at}"], [f"m{at + 1}"]) for at in range(40)],
        helper.make_node("ReduceSum", ["m40", "axes"], ["s"], keepdims=1),
        last,
    ]
    sized = [
        constant("spread7", [0] * small, [small], TensorProto.INT64),
        constant("tall7", [small, 1], [2], TensorProto.INT64),
        constant("wide7", [1, small], [2], TensorProto.INT64),
    ]
    zero = constant("zero", [0.0], [1, 1])
    beyond = constant("beyond", [5], [1], TensorProto.INT64)
    return {
        "NaN": graph(
            [column, helper.make_node("Mul", ["c", "zero"], ["z"]), helper.make_node("Div", ["z", "z"], ["s"]), last],
            initializers=[one, flat, zero],
        ),
        "memory": graph(blow, initializers=[one, flat, spread, tall, wide, axes]),
        "slow": graph(loop, initializers=[one, flat, axes, *sized]),
        "schema": graph([helper.make_node("Identity", ["x"], ["s"]), last], width=3, initializers=[flat]),
        "crash": graph(
            [column, helper.make_node("Clip", ["x"], ["k"]),
             helper.make_node("Gather", ["k", "where"], ["s"], axis=1),
             helper.make_node("Identity", ["beyond"], ["where"]), last],
            initializers=[one, flat, beyond],
        ),
        "wrong": graph([column, helper.make_node("Identity", ["c"], ["s"]), last], initializers=[one, flat]),
    }  # fmt: skip


REASONS = {
    "NaN": "NaN",
    "memory": "memory|MiB|alloc",
    "slow": "One row takes|no answer within|memory or time",
    "schema": "does not read the 2 columns",
    "crash": "fails in running|cannot be loaded",
    "wrong": "does not give the answers",
}


@pytest.mark.parametrize("kind", REASONS)
def test_a_bad_but_signed_model_is_refused_by_its_self_test_with_the_reason(kind, signing, tmp_path):
    import re

    golden = {"wrong": 77.0, "slow": 0.0}.get(kind, 1.0)
    inputs = ((golden if kind != "wrong" else 1.0, 2.0),)
    document = regression(tmp_path / "service", bad_models()[kind], signing, golden=(golden,), inputs=inputs)
    device = Device(
        tmp_path, signing,
        selftest=lambda folder, release, trust: SelfTest(folder, release, trust, timeout_s=20.0),
    )  # fmt: skip
    device.install(device.version("r1"))
    device.fetch.folders["bad"] = tmp_path / "service"
    device.install(document)
    assert device.state("bad") == "refused"
    assert re.search(REASONS[kind], device.reason("bad")), device.reason("bad")
    assert device.version_now == 1


def test_a_self_test_that_crashes_hangs_or_says_nothing_is_a_reason(signing, tmp_path):
    folder = tmp_path / "m"
    registered(draft("linear"), folder, signing)
    release = Release.of(release_document(folder))

    def ends(script, timeout_s=20.0):
        import time

        trial = SelfTest(folder, release, signing.trust, timeout_s=timeout_s, command=["sh", "-c", script])
        while (report := trial.poll()) is None:
            time.sleep(0.01)
        return report.reason

    assert "crashed (SIGSEGV)" in ends("cat >/dev/null; kill -SEGV $$")
    assert "crashed (SIGABRT)" in ends("cat >/dev/null; kill -ABRT $$")
    assert "more memory or time" in ends("kill -KILL $$")
    assert "no answer within 0.3 s" in ends("sleep 60", 0.3)
    assert "ended with code 3" in ends("exit 3")
    assert "no answer" in ends("echo '{}'; exit 0")
    assert ends('echo \'{"reason": "", "figures": {"rss_mb": 5}}\'') == ""


def test_manifests_that_are_no_manifest(signing, tmp_path):
    folder = tmp_path / "m"
    registered(draft("linear"), folder, signing)
    document = json.loads((folder / MANIFEST).read_bytes())

    def changed(**more):
        data = {key: value for key, value in {**document, **more}.items() if value is not ...}
        return json.dumps(data).encode()

    bad = [
        b"", b"[]", b"{" * 10_000, b"\xff", changed(manifest_version=2), changed(extra=1), changed(task=...),
        changed(task="magic"), changed(version=0), changed(files={}), changed(metrics={}),
        changed(model={**document["model"], "format": "skops"}),
        changed(model={**document["model"], "files": ["../model.onnx"]}),
        changed(golden={**document["golden"], "inputs": [[1.0]]}),
        changed(preparation={"nulls": "drop", "features": document["preparation"]["features"] * 2}),
        changed(groups={"fields": ["a"]}),
        changed().replace(b'"owner"', b'"owner": "x", "owner"'),
        changed().replace(b'"created_at": ', b'"created_at": NaN, "x": '),
    ]  # fmt: skip
    for payload in bad:
        (folder / MANIFEST).write_bytes(payload)
        (folder / SIGNATURE).write_bytes(signing.signer.sign(payload))
        with pytest.raises(Refused):
            LoadedModel.load(folder, signing.trust)
