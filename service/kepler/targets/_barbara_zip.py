"""The zip that Barbara's App Library takes: the agent as a Docker app, with the model in its image.

Rules: academy.barbara.tech, "Package a Docker application" and "Docker compose limitations", as of April 2026.
"""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Mapping
from typing import Any, cast

from kepler.core.errors import InvalidInput
from kepler.targets._agent_app import START, factory_folder

COMPOSE = "docker-compose.yaml"
MOUNTS = ("./persist/", "./appconfig", "./sys/")
_DATE = (2026, 1, 1, 0, 0, 0)  # the same model gives the same bytes
_IMAGE = re.compile(r"[a-z0-9][a-z0-9._/:@-]{0,254}")

DOCKERFILE = """FROM {image}
USER root
COPY factory /factory
COPY start.sh /start.sh
ENTRYPOINT ["/bin/sh", "/start.sh"]
CMD []
"""


def compose(*, cpus: float = 0.5, memory_mb: int = 256) -> dict[str, Any]:
    """The app's ``docker-compose.yaml``."""
    return {
        "services": {
            "kepler-edge": {
                "build": ".",
                "restart": "unless-stopped",
                "env_file": [".barbara_env"],
                "environment": {"KEPLER_EDGE_HOME": "/persist/kepler-edge"},
                "volumes": ["./persist/:/persist/", "./appconfig/:/appconfig/"],
                "networks": ["barbaraServices"],
                "stop_grace_period": "20s",
                "deploy": {
                    "resources": {
                        "limits": {"cpus": f"{cpus:g}", "memory": f"{memory_mb}M"},
                        "reservations": {"cpus": f"{min(cpus, 0.1):g}", "memory": f"{min(memory_mb, 128)}M"},
                    }
                },
            }
        },
        "networks": {"barbaraServices": {"external": True}},
    }


def build(
    image: str, model: str, files: Mapping[str, bytes], *, cpus: float = 0.5, memory_mb: int = 256
) -> bytes:
    """The zip of an app that runs ``model`` on ``image``; the same arguments give the same bytes.

    Parameters
    ----------
    image
        The agent's image, as the nodes pull it.
    files
        The version's files by name, manifest and signature among them.

    Raises
    ------
    InvalidInput
        ``image`` is no name of one, or a rule of Barbara would be broken.
    """
    if not _IMAGE.fullmatch(image):
        raise InvalidInput(
            f"{image[:100]!r} is no image",
            fix="Name one that the nodes can pull, such as registry/kepler-edge:0.1.0.",
        )
    document = compose(cpus=cpus, memory_mb=memory_mb)
    check_compose(document)
    folder = factory_folder(model)
    members = {
        # JSON is YAML; its keys are quoted, which keeps "no" from being read as false.
        COMPOSE: json.dumps(document, indent=2).encode() + b"\n",
        "Dockerfile": DOCKERFILE.format(image=image).encode(),
        "start.sh": START.encode(),
        ".barbara_env": b"",
        **{f"{folder}/{name}": content for name, content in files.items()},
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as package:
        for name in sorted(members):
            entry = zipfile.ZipInfo(name, _DATE)
            entry.external_attr = (0o755 if name == "start.sh" else 0o644) << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            package.writestr(entry, members[name])
    return out.getvalue()


def check_compose(document: Mapping[str, Any]) -> None:
    """Raise `InvalidInput` for a form that Barbara rejects."""
    if "name" in document:
        raise _rejected("a top-level name")
    for name, found in document.get("services", {}).items():
        service = cast("Mapping[str, Any]", found)
        if service.get("privileged") or service.get("cap_add"):
            raise _rejected(f"privileges for {name!r}")
        if service.get("restart") == "always":
            raise _rejected("restart: always", "unless-stopped")
        if service.get("restart") is False:
            raise _rejected("an unquoted restart: no", '"no"')
        if "tty" in service:
            raise _rejected(f"tty of {name!r}")
        if not isinstance(service.get("env_file", []), list):
            raise _rejected("env_file as a text", "a list")
        for volume in cast("list[Any]", service.get("volumes", [])):
            host = str(volume).partition(":")[0]
            if host.startswith((".", "/", "~")) and (not host.startswith(MOUNTS) or ".." in host.split("/")):
                raise _rejected(f"the mount of {host[:80]!r}", " or ".join(MOUNTS))


def check_zip(content: bytes) -> dict[str, Any]:
    """The compose document of a zip, checked as Barbara checks it. Raises `InvalidInput`."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as package:
            names = package.namelist()
            if not {COMPOSE, "docker-compose.yml"} & set(names):
                raise _rejected("a zip without docker-compose.yaml at its root")
            document: Any = json.loads(package.read(COMPOSE))
    except (zipfile.BadZipFile, KeyError, ValueError) as error:
        raise _rejected("what is no zip of an app") from error
    check_compose(document)
    return document


def _rejected(what: str, instead: str = "") -> InvalidInput:
    return InvalidInput(f"Barbara rejects {what}", fix=f"Use {instead}." if instead else "Leave it out.")
