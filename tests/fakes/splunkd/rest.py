"""Which path goes where, and who asks.

Sources: REST API Reference; splunklib 2.1.1 (binding.py: the headers it sends, client.py: the paths it asks for).
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from . import rest_conf, rest_jobs
from .atom import Entry, feed, plain
from .web import Refused, Request, Response, missing_capability, not_authenticated, not_found

if TYPE_CHECKING:
    from .splunkd import Splunkd

_NAMESPACE = re.compile(r"^/servicesNS/([^/]+)/([^/]+)/(.*)$")
_SERVICES = re.compile(r"^/services/(.*)$")
COOKIE = "splunkd_8089"


def parse_request(method: str, target: str, headers: dict[str, str], body: bytes, client: str) -> Request:
    path, _, query = target.partition("?")
    owner = app = None
    match = _NAMESPACE.match(path)
    if match:
        owner, app, inner = unquote(match[1]), unquote(match[2]), match[3]
    else:
        match = _SERVICES.match(path)
        if match is None:
            raise Refused(404, "Not Found")
        inner = match[1]
    form: list[tuple[str, str]] = []
    kind = headers.get("content-type", "application/x-www-form-urlencoded")
    if body and kind.startswith("application/x-www-form-urlencoded"):
        form = parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True)
    return Request(
        method=method,
        path=inner.strip("/"),
        owner=owner,
        app=app,
        query=parse_qsl(query, keep_blank_values=True),
        form=form,
        body=body,
        headers=headers,
        client=client,
        full_path=path,
    )


def identify(splunkd: Splunkd, request: Request) -> None:
    """`Splunk KEY`, `Bearer TOKEN`, Basic, or the cookie that login gave."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    accounts = splunkd.accounts
    if scheme.lower() in ("splunk", "bearer") and value:
        request.user = accounts.user_of(value.strip())
        request.session_key = value.strip()
    elif scheme.lower() == "basic" and value:
        try:
            name, _, password = base64.b64decode(value).decode().partition(":")
        except ValueError:
            return
        key = accounts.login(name, password)
        if key is not None:
            request.user, request.session_key = name, key
    else:
        for part in request.headers.get("cookie", "").split(";"):
            name, _, key = part.strip().partition("=")
            if name == COOKIE and accounts.user_of(key) is not None:
                request.user, request.session_key = accounts.user_of(key), key


def dispatch(splunkd: Splunkd, request: Request) -> Response:
    identify(splunkd, request)
    instead = splunkd.intercept(request) if splunkd.intercept is not None else None
    if instead is not None:
        return instead
    parts = [unquote(p) for p in request.path.split("/") if p]
    if request.path == "auth/login":
        return _login(splunkd, request)
    endpoint = splunkd.handlers.find(request.path)
    if endpoint is not None:
        return splunkd.handlers.handle(endpoint, request)
    if request.user is None:
        raise not_authenticated()
    member = rest_conf.settings_member(splunkd, request.path)
    if member is not None:
        return rest_conf.ucc_settings(splunkd, request, *member)
    head = parts[:2]
    if head == ["search", "jobs"]:
        return rest_jobs.handle(splunkd, request, parts[2:])
    if parts[:3] == ["search", "v2", "jobs"]:
        return rest_jobs.handle(splunkd, request, parts[3:])
    if head == ["apps", "local"]:
        return rest_conf.apps(splunkd, request, parts[2:])
    if len(parts) >= 2 and parts[0] == "configs" and parts[1].startswith("conf-"):
        return rest_conf.conf(splunkd, request, parts[1][5:], parts[2:])
    if parts[:1] == ["properties"]:
        return rest_conf.properties(splunkd, request, parts[1:])
    if head == ["storage", "passwords"]:
        return rest_conf.passwords(splunkd, request, _raw_rest(request, 2))
    if head == ["authentication", "current-context"]:
        return feed(request, "current-context", [_context_entry(splunkd, request)])
    if head == ["authentication", "users"]:
        return _users(splunkd, request, parts[2:])
    if head == ["authorization", "roles"]:
        return _roles(splunkd, request, parts[2:])
    if head == ["authorization", "capabilities"]:
        content = {"capabilities": splunkd.accounts.known_capabilities()}
        return feed(request, "capabilities", [Entry("capabilities", "authorization/capabilities", content)])
    if head in (["server", "info"], ["server", "settings"]):
        return feed(request, "server-" + parts[1], [_server_entry(splunkd, parts[1])])
    if head == ["data", "indexes"]:
        return _indexes(splunkd, request, parts[2:])
    if head == ["receivers", "simple"]:
        return _receive(splunkd, request)
    raise Refused(404, "Not Found")


def _raw_rest(request: Request, skip: int) -> list[str]:
    """Path parts with an encoded slash kept inside its part."""
    return [unquote(p) for p in request.path.split("/")[skip:] if p]


def _login(splunkd: Splunkd, request: Request) -> Response:
    key = splunkd.accounts.login(request.get("username"), request.get("password"))
    if key is None:
        raise Refused(401, "Login failed", "WARN", "incorrect_username_or_password")
    response = plain(request, {"sessionKey": key})
    if request.get("cookie") == "1":
        response.headers.append(("Set-Cookie", f"{COOKIE}={key}; Path=/; HttpOnly"))
    return response


def _context_entry(splunkd: Splunkd, request: Request) -> Entry:
    name = request.user or ""
    if name == "splunk-system-user":
        content = {"username": name, "roles": ["splunk-system-role"], "capabilities": []}
    else:
        user = splunkd.accounts.users[name]
        content = {
            "username": name,
            "realname": user.real_name,
            "email": "",
            "defaultApp": "search",
            "roles": user.roles,
            "capabilities": sorted(splunkd.accounts.capabilities(name)),
            "type": "Splunk",
        }
    return Entry("context", "authentication/current-context/context", content, app="system")


def _users(splunkd: Splunkd, request: Request, rest: list[str]) -> Response:
    accounts = splunkd.accounts
    if request.method == "POST" and not rest:
        if not accounts.may(request.user or "", "edit_user"):
            raise missing_capability("edit_user")
        splunkd.add_user(request.get("name"), request.get("password"), roles=request.all("roles") or ["user"])
        rest = [request.get("name")]
    if rest and rest[0] not in accounts.users:
        raise not_found("users", rest[0])
    sees_all = accounts.may(request.user or "", "edit_user")
    names = [n for n in accounts.users if (not rest or n == rest[0]) and (sees_all or n == request.user)]
    entries = [
        Entry(
            n,
            f"authentication/users/{n}",
            {
                "realname": accounts.users[n].real_name,
                "roles": accounts.users[n].roles,
                "capabilities": sorted(accounts.capabilities(n)),
                "type": "Splunk",
            },
            app="system",
        )
        for n in names
    ]
    return feed(request, "users", entries, 201 if request.method == "POST" else 200)


def _roles(splunkd: Splunkd, request: Request, rest: list[str]) -> Response:
    roles = splunkd.accounts.all_roles()
    if rest and rest[0] not in roles:
        raise not_found("roles", rest[0])
    entries = [
        Entry(
            role.name,
            f"authorization/roles/{role.name}",
            {"capabilities": sorted(role.capabilities), "imported_roles": role.imports},
            app="system",
        )
        for role in roles.values()
        if not rest or role.name == rest[0]
    ]
    return feed(request, "roles", entries)


def _server_entry(splunkd: Splunkd, name: str) -> Entry:
    content = {
        "version": splunkd.splunk_version,
        "build": "standin",
        "serverName": "standin",
        "host": "standin",
        "guid": splunkd.guid,
        "os_name": "Linux",
        "cpu_arch": "x86_64",
        "product_type": "enterprise",
        "isFree": False,
        "isTrial": False,
        "kvStoreStatus": "unknown",
        "mgmtHostPort": f"0.0.0.0:{splunkd.port}",
        "server_roles": ["search_head", "indexer"],
    }
    return Entry(f"server-{name}", f"server/{name}/server-{name}", content, app="system", owner="system")


def _indexes(splunkd: Splunkd, request: Request, rest: list[str]) -> Response:
    if request.method == "POST" and not rest:
        if not splunkd.accounts.may(request.user or "", "admin_all_objects"):
            raise missing_capability("indexes_edit")
        splunkd.events.create(request.get("name"), metrics=request.get("datatype") == "metric")
        rest = [request.get("name")]
    known = splunkd.events.indexes
    if rest and rest[0] not in known:
        raise not_found("indexes", rest[0])
    entries = [
        Entry(n, f"data/indexes/{n}", {"datatype": kind, "disabled": False}, app="search")
        for n, kind in known.items()
        if not rest or n == rest[0]
    ]
    return feed(request, "indexes", entries, 201 if request.method == "POST" else 200)


def _receive(splunkd: Splunkd, request: Request) -> Response:
    """receivers/simple: the body is one event, where it goes is in the query."""
    index = request.get("index", "main")
    if index not in splunkd.events.indexes:
        raise Refused(400, f"supplied index '{index}' missing", "ERROR")
    splunkd.events.add(
        request.body.decode("utf-8", "replace"),
        index=index,
        host=request.get("host", "standin"),
        source=request.get("source", "www"),
        sourcetype=request.get("sourcetype", "web_event"),
    )
    return plain(request, {"bytes": str(len(request.body)), "index": index})
