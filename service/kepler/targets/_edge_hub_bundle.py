"""The bundle that a Splunk Edge Hub takes: ``edge.json`` and a container's archive in one tar.

The format is known from a published connector that cites Splunk's page on containers; it was not tried on a device.
No Docker is needed here: the model is one more layer on the agent's image, as `docker save` wrote it.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kepler.core.errors import InvalidInput, NotFound

STORAGE = "/data"
ARCHITECTURE = "arm64"
_TIME = 1_767_225_600  # of every member, so that the same model gives the same bytes
_SMALL = 4 * 2**20
_OCI = frozenset({"index.json", "oci-layout", "repositories", "manifest.json"})


def edge_json(name: str, storage_mb: int) -> dict[str, Any]:
    """The hub's description of a container."""
    return {
        "name": name,
        "containerArchive": "app.tar",
        "portMap": [],
        "mappedStorage": STORAGE,
        "mappedStorageMb": storage_mb,
    }


def build(
    image_archive: Path,
    out: Path,
    *,
    name: str,
    storage_mb: int,
    files: Mapping[str, bytes],
    env: Mapping[str, str],
) -> None:
    """Write the bundle to ``out``: ``files`` by path over the image's, ``env`` beside its variables.

    Raises
    ------
    NotFound
        There is no such archive.
    InvalidInput
        It is no image for arm64.
    """
    app = out.with_name(f".{out.name}.app")
    draft = out.with_name(f".{out.name}.partial")
    try:
        add_layer(image_archive, app, files, env)
        with tarfile.open(draft, "w", format=tarfile.GNU_FORMAT) as bundle:
            _add(bundle, "edge.json", json.dumps(edge_json(name, storage_mb), indent=2).encode() + b"\n")
            with app.open("rb") as content:
                bundle.addfile(_entry("app.tar", app.stat().st_size), content)
        draft.chmod(0o600)  # it may hold a join token
        draft.replace(out)
    finally:
        app.unlink(missing_ok=True)
        draft.unlink(missing_ok=True)


def add_layer(archive: Path, out: Path, files: Mapping[str, bytes], env: Mapping[str, str]) -> None:
    """The image of ``archive`` with one more layer that holds ``files``, started by ``/start.sh``."""
    layer = _layer(files)
    digest = hashlib.sha256(layer).hexdigest()
    try:
        with tarfile.open(archive) as source:
            manifest, config = _image(source)
            _extend(config, env, digest)
            payload = json.dumps(config, sort_keys=True).encode()
            named = f"{hashlib.sha256(payload).hexdigest()}.json"
            entry = {
                "Config": named,
                "RepoTags": manifest.get("RepoTags"),
                "Layers": [*manifest["Layers"], f"{digest}/layer.tar"],
            }
            with tarfile.open(out, "w", format=tarfile.GNU_FORMAT) as made:
                # The OCI index names the old image: without it the manifest alone counts.
                for member in source:
                    if member.name not in _OCI and member.name != manifest["Config"]:
                        made.addfile(member, source.extractfile(member) if member.isreg() else None)
                _add(made, f"{digest}/layer.tar", layer)
                _add(made, named, payload)
                _add(made, "manifest.json", json.dumps([entry]).encode())
    except FileNotFoundError as error:
        raise NotFound(
            f"There is no image {archive}",
            fix="Make one with `docker save`; docs/how-to/edge-hub.md has the lines.",
        ) from error
    except (tarfile.TarError, KeyError, IndexError, ValueError, TypeError) as error:
        raise InvalidInput(
            f"{archive.name} is no image as `docker save` writes it",
            cause=f"{type(error).__name__}: {error}"[:300],
        ) from error


def _image(source: tarfile.TarFile) -> tuple[dict[str, Any], dict[str, Any]]:
    manifests: Any = json.loads(_read(source, "manifest.json"))
    if len(manifests) != 1:
        raise InvalidInput("The archive holds several images", fix="Save the agent's alone.")
    manifest = cast("dict[str, Any]", manifests[0])
    config: dict[str, Any] = json.loads(_read(source, manifest["Config"]))
    if config.get("architecture") != ARCHITECTURE:
        raise InvalidInput(
            f"The image is for {str(config.get('architecture'))[:20]} and an Edge Hub is {ARCHITECTURE}",
            fix=f"Build it with `docker buildx build --platform linux/{ARCHITECTURE}`.",
        )
    return manifest, config


def _extend(config: dict[str, Any], env: Mapping[str, str], digest: str) -> None:
    run: dict[str, Any] = config.setdefault("config", {})
    kept = [item for item in run.get("Env") or [] if item.partition("=")[0] not in env]
    run["Env"] = [*kept, *(f"{name}={value}" for name, value in sorted(env.items()))]
    run["Entrypoint"], run["Cmd"] = ["/bin/sh", "/start.sh"], []
    # Who owns the mapped storage is unknown; a container on the hub has no other rights to lose.
    run["User"] = "0:0"
    config["rootfs"]["diff_ids"].append(f"sha256:{digest}")
    config.setdefault("history", []).append({"created_by": "kepler: model and start.sh"})


def _layer(files: Mapping[str, bytes]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as layer:
        for name in sorted(files):
            _add(layer, name, files[name], 0o755 if name.endswith(".sh") else 0o644)
    return out.getvalue()


def _read(source: tarfile.TarFile, name: str) -> bytes:
    member = source.getmember(name)
    content = source.extractfile(member) if member.isreg() and member.size <= _SMALL else None
    if content is None:
        raise ValueError(f"{name[:100]} is no small file")
    return content.read()


def _add(target: tarfile.TarFile, name: str, content: bytes, mode: int = 0o644) -> None:
    target.addfile(_entry(name, len(content), mode), io.BytesIO(content))


def _entry(name: str, size: int, mode: int = 0o644) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode, entry.mtime = size, mode, _TIME
    return entry
