"""apps/local, configs/conf-*, properties, storage/passwords and UCC's settings endpoints.

Sources: REST API Reference ("Configuration", "Access endpoints"); facts/splunk_app.md section 6; UCC 6.6.0's
settings endpoint `<app>_settings` with masked encrypted fields.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .apps import App
from .atom import Entry, feed
from .secrets_store import Secret
from .web import Refused, Request, Response, missing_capability, not_found, not_permitted

if TYPE_CHECKING:
    from .splunkd import Splunkd

MASK = "******"


def _app_of(splunkd: Splunkd, request: Request) -> App | None:
    if request.app in (None, "-"):
        return None
    app = splunkd.apps.get(request.app or "")
    if app is None:
        if request.app == "system":
            return None
        raise Refused(404, f"Application does not exist: {request.app}")
    return app


def _need(splunkd: Splunkd, request: Request, capability: str) -> None:
    if not splunkd.accounts.may(request.user or "", capability):
        raise missing_capability(capability)


# apps/local


def apps(splunkd: Splunkd, request: Request, rest: list[str]) -> Response:
    entries = [_app_entry(app) for app in splunkd.apps]
    if rest:
        entries = [e for e in entries if e.name == rest[0]]
        if not entries:
            raise not_found("localapps", rest[0])
    return feed(request, "localapps", entries)


def _app_entry(app: App) -> Entry:
    conf = app.conf("app")
    content = {
        "label": conf.get("ui", {}).get("label", app.name),
        "version": conf.get("launcher", {}).get("version", ""),
        "author": conf.get("launcher", {}).get("author", ""),
        "visible": conf.get("ui", {}).get("is_visible", "1") in ("1", "true"),
        "configured": conf.get("install", {}).get("is_configured", "0") in ("1", "true"),
        "disabled": False,
    }
    return Entry(app.name, f"apps/local/{app.name}", content, app="system")


# configs/conf-NAME


def conf(splunkd: Splunkd, request: Request, name: str, rest: list[str]) -> Response:
    app = _app_of(splunkd, request)
    stanzas = _stanzas(splunkd, app, name)
    handler = f"conf-{name}"
    if not rest:
        if request.method == "POST":
            _need(splunkd, request, "admin_all_objects")
            stanza = request.get("name")
            if not stanza:
                raise Refused(400, "Cannot perform action POST without a target name to act on.")
            if stanza in stanzas:
                raise Refused(409, f"\n In handler '{handler}': An object with name={stanza} already exists")
            write_conf(splunkd, app, name, stanza, _settings(request))
            written = _stanzas(splunkd, app, name)[stanza]
            return feed(request, handler, [_stanza_entry(name, stanza, *written)], 201)
        if not stanzas and not any(name in a.conf_names() for a in splunkd.apps):
            raise not_found(handler, name)
        entries = [_stanza_entry(name, s, *v) for s, v in sorted(stanzas.items())]
        return feed(request, handler, entries)
    stanza = "/".join(rest)
    if stanza not in stanzas:
        raise not_found(handler, stanza)
    if request.method == "POST":
        _need(splunkd, request, "admin_all_objects")
        write_conf(splunkd, app, name, stanza, _settings(request))
        stanzas = _stanzas(splunkd, app, name)
    elif request.method == "DELETE":
        _need(splunkd, request, "admin_all_objects")
        for owner in splunkd.apps:
            owner.written.get(name, {}).pop(stanza, None)
        return feed(request, handler, [])
    return feed(request, handler, [_stanza_entry(name, stanza, *stanzas[stanza])])


def _stanzas(splunkd: Splunkd, app: App | None, name: str) -> dict[str, tuple[App, dict[str, str]]]:
    found: dict[str, tuple[App, dict[str, str]]] = {}
    for owner in [app] if app is not None else splunkd.apps:
        contents = owner.conf(name)
        base = contents.get("default", {})
        for stanza, settings in contents.items():
            if stanza != "default":
                found[stanza] = (owner, {**base, **settings})
    return found


def _settings(request: Request) -> dict[str, str]:
    return {k: v for k, v in request.form if k not in ("name", "output_mode")}


def write_conf(splunkd: Splunkd, app: App | None, name: str, stanza: str, values: dict[str, str]) -> None:
    owner = app or splunkd.apps.get("search")
    assert owner is not None
    owner.written.setdefault(name, {}).setdefault(stanza, {}).update(values)


def _stanza_entry(conf_name: str, stanza: str, owner: App, settings: dict[str, str]) -> Entry:
    content: dict[str, Any] = {
        **settings,
        "eai:appName": owner.name,
        "eai:userName": "nobody",
        "disabled": False,
    }
    return Entry(stanza, f"configs/conf-{conf_name}/{stanza}", content, app=owner.name)


def properties(splunkd: Splunkd, request: Request, rest: list[str]) -> Response:
    """The names of confs, or of one conf's stanzas: splunklib asks here whether a conf exists."""
    if len(rest) > 1 or request.method != "GET":
        raise Refused(404, "The splunkd stand-in lists properties only; use configs/conf-NAME.")
    names = sorted({n for app in splunkd.apps for n in app.conf_names()})
    if rest:
        if rest[0] not in names:
            raise not_found("properties", rest[0])
        names = sorted(_stanzas(splunkd, _app_of(splunkd, request), rest[0]))
    return feed(request, "properties", [Entry(n, "/".join(["properties", *rest, n]), {}) for n in names])


# storage/passwords


def passwords(splunkd: Splunkd, request: Request, rest: list[str]) -> Response:
    """Reading needs list_storage_passwords, which only admin has (facts/splunk_app.md section 6)."""
    app = _app_of(splunkd, request)
    app_name = app.name if app else None
    if request.method == "GET":
        if not splunkd.accounts.may(request.user or "", "list_storage_passwords"):
            raise not_permitted()
    elif not splunkd.accounts.may(request.user or "", "edit_storage_passwords"):
        raise not_permitted()
    store = splunkd.secrets
    if not rest:
        if request.method == "POST":
            username, clear = request.get("name"), request.get("password")
            if not username or not clear:
                raise Refused(400, "Arguments name and password are required.")
            realm = request.get("realm")
            if any(s.realm == realm and s.username == username for s in store.all(app_name or "search")):
                raise Refused(
                    409,
                    f"\n In handler 'passwords': Object already exists: {realm}:{username}: (realm and name)",
                )
            secret = store.set(app_name or "search", realm, username, clear)
            return feed(request, "passwords", [_password_entry(secret)], 201)
        # By name, as text: "x10" stands before "x2" (REST API Reference: sort_key=name, sort_dir=asc by default).
        entries = sorted((_password_entry(s) for s in store.all(app_name)), key=lambda entry: entry.name)
        return feed(request, "passwords", entries)
    secret = store.find(app_name, "/".join(rest))
    if secret is None:
        raise not_found("passwords", "/".join(rest))
    if request.method == "DELETE":
        store.remove(secret)
        return feed(request, "passwords", [_password_entry(s) for s in store.all(app_name)])
    if request.method == "POST":
        secret = store.set(secret.app, secret.realm, secret.username, request.get("password"))
    return feed(request, "passwords", [_password_entry(secret)])


def _password_entry(secret: Secret) -> Entry:
    content = {
        "realm": secret.realm,
        "username": secret.username,
        "password": "********",
        "clear_password": secret.clear,
        "encr_password": "$7$standin",
    }
    return Entry(secret.name, f"storage/passwords/{secret.name}", content, app=secret.app, owner=secret.owner)


# UCC's settings


def settings_member(splunkd: Splunkd, path: str) -> tuple[App, str, list[str]] | None:
    """(app, conf, rest) when the path is a member of an app's [admin:...] stanza: `kepler_settings/service`."""
    for app in splunkd.apps:
        for stanza, settings in app.conf("restmap").items():
            if not stanza.startswith("admin:"):
                continue
            base = settings.get("match", "/").strip("/")
            for member in [m.strip() for m in settings.get("members", "").split(",")]:
                whole = f"{base}/{member}".strip("/")
                if member and (path == whole or path.startswith(whole + "/")):
                    return app, member, [p for p in path[len(whole) :].split("/") if p]
    return None


def encrypted_fields(app: App) -> set[str]:
    """Names of fields that globalConfig.json marks encrypted, in the build or at the app's root."""
    for path in (
        app.path / "appserver" / "static" / "js" / "build" / "globalConfig.json",
        app.path.resolve().parent / "globalConfig.json",
        app.path / "globalConfig.json",
    ):
        if path.is_file():
            found: set[str] = set()
            _collect(json.loads(path.read_text(encoding="utf-8")), found)
            return found
    return set()


def _collect(value: Any, found: set[str]) -> None:
    if isinstance(value, dict):
        if value.get("encrypted") is True and "field" in value:
            found.add(value["field"])
        for item in value.values():
            _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)


def ucc_settings(splunkd: Splunkd, request: Request, app: App, name: str, rest: list[str]) -> Response:
    """GET shows encrypted fields as ******, in clear with `--cred--=1`; POST keeps them in storage/passwords."""
    if request.method == "POST" or request.true("--cred--"):
        _need(splunkd, request, "admin_all_objects")
    secret_fields = encrypted_fields(app)
    stanzas = _stanzas(splunkd, app, name)
    if request.method == "POST":
        stanza = rest[0] if rest else request.get("name")
        values = _settings(request)
        secret_values = {k: v for k, v in values.items() if k in secret_fields and v != MASK}
        write_conf(
            splunkd,
            app,
            name,
            stanza,
            {k: MASK if k in secret_fields and v else v for k, v in values.items()},
        )
        if secret_values:
            splunkd.secrets.set_ucc(
                app.name, name, stanza, {**splunkd.secrets.get_ucc(app.name, name, stanza), **secret_values}
            )
        stanzas = _stanzas(splunkd, app, name)
        rest = [stanza]
    if rest:
        if rest[0] not in stanzas:
            raise not_found(name, rest[0])
        stanzas = {rest[0]: stanzas[rest[0]]}
    entries: list[Entry] = []
    for stanza, (owner, settings) in sorted(stanzas.items()):
        content = dict(settings)
        if request.true("--cred--"):
            content.update(splunkd.secrets.get_ucc(app.name, name, stanza))
        entries.append(Entry(stanza, f"{name}/{stanza}", content, app=owner.name))
    return feed(request, name, entries)
