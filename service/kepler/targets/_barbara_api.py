"""Barbara's API through its own SDK, in our words and errors.

What a node answers about its apps (``spaces``) is known from the SDK's code alone; docs/how-to/barbara.md says what was
not tried on a real node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

from kepler.core.errors import Denied, InvalidInput, KeplerError, NotFound, Unavailable
from kepler.core.extras import need

DEVELOPER = "Kepler"
_RETRIES = 3
_PAGE = 1_000
_BAD = ("exited", "dead", "restarting")


@dataclass(frozen=True, slots=True)
class NodeApp:
    """The app on one node. ``state`` is healthy, unhealthy, pending or starting."""

    node: str
    workload: str
    application: str
    version: str
    state: str
    detail: str = ""


class Barbara:
    """One session; close it with ``with``. Not for several threads."""

    def __init__(self, settings: Any, secret: Callable[[str], str]) -> None:
        sdk: Any = need("barbara", extra="barbara")
        missing = [name for name in ("client_id", "username") if not getattr(settings, name)]
        if missing:
            raise InvalidInput(
                f"The setting barbara.{missing[0]} is empty",
                fix="Set KEPLER_BARBARA__CLIENT_ID and KEPLER_BARBARA__USERNAME; Barbara's support gives them.",
            )
        try:
            client_secret: str | None = secret(settings.client_secret)
        except NotFound:
            client_secret = None  # public clients have none
        config = sdk.BarbaraConfig(
            client_id=settings.client_id,
            client_secret=client_secret,
            username=settings.username,
            password=secret(settings.password),
            api_url=settings.api_url.rstrip("/"),
            auth_url=settings.auth_url,
            realm=settings.realm,
        )
        self._timeout_s: float = settings.timeout_s
        self._client: Any = sdk.BarbaraClient(config, timeout=self._timeout_s, max_retries=_RETRIES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def node(self, name: str) -> str:
        """Id of the node that is called exactly ``name``."""
        with _translated():
            found = [
                node for node in self._client.nodes.list(search=name, size=_PAGE) if node.node_name == name
            ]
        if not found:
            raise NotFound(f"Barbara knows no node {name[:100]!r}", fix="Name it as Barbara's Panel does.")
        return str(found[0].id)

    def online(self, node: str) -> bool:
        with _translated():
            status: Any = self._client.nodes.get(node).status or {}
        return bool(status.get("online", True))

    def application(self, name: str) -> str:
        """Id in the App Library; empty where there is none."""
        with _translated():
            found = [
                app for app in self._client.applications.list(search=name, size=_PAGE) if app.name == name
            ]
        return str(found[0].id) if found else ""

    def create_application(self, name: str) -> str:
        with _translated():
            self._client.applications.create(
                name,
                "Scores ONNX models beside machines.",
                DEVELOPER,
                docker=True,
                short_description="Kepler's edge agent",
            )
        return self.application(name)

    def version(self, application: str, name: str) -> str:
        """Id of a version by its name; empty where there is none."""
        return next(
            (str(item["_id"]) for item in self._versions(application) if item.get("name") == name), ""
        )

    def version_before(self, application: str, name: str) -> tuple[str, str] | None:
        """Id and name of the version uploaded before the one called ``name``."""
        found = self._versions(application)
        names = [str(item.get("name", "")) for item in found]
        place = names.index(name) + 1 if name in names else len(found)
        return (str(found[place]["_id"]), names[place]) if place < len(found) else None

    def version_name(self, app: NodeApp) -> str:
        found = self._versions(app.application)
        return next((str(item.get("name")) for item in found if item["_id"] == app.version), app.version)

    def _versions(self, application: str) -> list[dict[str, Any]]:
        """Newest first."""
        if not application:
            return []
        with _translated():
            return cast(
                "list[dict[str, Any]]",
                self._client.applications.list_versions(
                    application, size=_PAGE, sort_column="created", sort_order="desc"
                ),
            )

    def upload(
        self, application: str, path: Path, name: str, architectures: list[str], notes: list[str]
    ) -> None:
        with _translated():
            self._client.applications.create_version(
                application, str(path), name, architectures, notes, timeout=10 * self._timeout_s
            )

    def app_on(self, node: str, application: str, *, refresh: bool = False) -> NodeApp | None:
        """How ``application`` stands on a node; None where it is not there."""
        with _translated():
            spaces: list[dict[str, Any]] = self._client.nodes.get(node).raw.get("spaces") or []
            for space in spaces:
                current: Mapping[str, Any] = space.get("current") or {}
                if _id(current.get("applicationId")) == application and application:
                    workload = str(space["_id"])
                    if refresh:
                        self._client.nodes.workloads.refresh_info(node, workload)
                    raw: Mapping[str, Any] = self._client.nodes.workloads.get(node, workload).raw
                    state, detail = _state(raw)
                    version = _id((raw.get("current") or current).get("appVersionId"))
                    return NodeApp(node, workload, application, version, state, detail)
        return None

    def install(self, node: str, application: str, version: str) -> None:
        with _translated():
            self._client.nodes.workloads.create_docker_workload(
                node, app_version_id=version, application_id=application, force_pull=True
            )

    def update(self, app: NodeApp, application: str, version: str) -> None:
        with _translated():
            self._client.nodes.workloads.update_docker_workload(
                app.node, app.workload, app_version_id=version, application_id=application, force_pull=True
            )

    def remove(self, app: NodeApp) -> None:
        with _translated():
            self._client.nodes.workloads.delete(app.node, app.workload)

    def logs(self, app: NodeApp, limit: int) -> list[tuple[float, str]]:
        """Seconds since the epoch and line, oldest first."""
        with _translated():
            found: list[dict[str, Any]] = self._client.nodes.workloads.get_logs(
                app.node, app.workload, results=limit
            )
        return sorted((_seconds(item.get("timestamp")), str(item.get("message", ""))) for item in found)


def _state(raw: Mapping[str, Any]) -> tuple[str, str]:
    """State and detail of a workload out of what the node reported of its containers."""
    status: Mapping[str, Any] = raw.get("spaceStatus") or {}
    if (status.get("update") or {}).get("pending") or (status.get("run") or {}).get("pending"):
        return "pending", "the node has not taken the order yet"
    containers: list[Mapping[str, Any]] = ((raw.get("info") or {}).get("container") or {}).get("info") or []
    if not containers:
        return "starting", "no container yet"
    for item in containers:
        health = str((item.get("health") or {}).get("Status", ""))
        state = str(item.get("state", ""))
        if state in _BAD or health == "unhealthy":
            return "unhealthy", f"{item.get('service', '')} is {health or state} ({item.get('status', '')})"
        if state != "running" or health == "starting":
            return "starting", f"{item.get('service', '')} is {state}"
    return "healthy", ""


def _id(value: Any) -> str:
    """An id, plain or inside an embedded object."""
    return str(value.get("_id", "")) if isinstance(value, dict) else str(value or "")


def _seconds(value: Any) -> float:
    if isinstance(value, int | float):
        return float(value) / (1000 if value > 1e11 else 1)
    try:
        return datetime.fromisoformat(str(value)).timestamp()
    except ValueError:
        return 0.0


@contextmanager
def _translated() -> Iterator[None]:
    """The SDK's errors as ours; their bodies, which may hold anything, are left out."""
    sdk: Any = need("barbara", extra="barbara")
    httpx: Any = need("httpx", extra="barbara")
    try:
        yield
    except (sdk.BarbaraAuthError, sdk.BarbaraPermissionError) as error:
        raise Denied(
            "Barbara refuses the credentials or what was asked with them",
            cause=f"It answered {error.status}",
            fix="Check the settings `barbara` and the secrets they name; the user needs the role editor.",
        ) from error
    except sdk.BarbaraNotFoundError as error:
        raise NotFound("Barbara does not know what was asked for", cause=str(error)[:300]) from error
    except sdk.BarbaraApiError as error:
        kind: type[KeplerError] = InvalidInput if error.status and error.status < 500 else Unavailable
        raise kind("Barbara cannot do what was asked", cause=f"It answered {error.status}") from error
    except httpx.HTTPError as error:
        raise Unavailable(
            "Barbara cannot be reached",
            cause=f"{type(error).__name__}",
            fix="Check KEPLER_BARBARA__API_URL, KEPLER_BARBARA__AUTH_URL and the network.",
            retry_after_s=10.0,
        ) from error
