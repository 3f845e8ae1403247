"""REST entities as Atom feeds and as JSON, in the shape that splunklib.client reads (splunklib 2.1.1, data.py)."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import escape, quoteattr

from .web import Request, Response, json_response

_HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'
_SPACES = (
    'xmlns="http://www.w3.org/2005/Atom" xmlns:s="http://dev.splunk.com/ns/rest" '
    'xmlns:opensearch="http://a9.com/-/spec/opensearch/1.1/"'
)


@dataclass
class Entry:
    name: str
    path: str
    """Where the entity is, below the namespace: "storage/passwords/a:b:"."""
    content: dict[str, Any]
    app: str = "search"
    owner: str = "nobody"
    sharing: str = "app"
    links: tuple[str, ...] = ("list", "edit", "remove")
    acl: dict[str, Any] = field(default_factory=dict)

    @property
    def href(self) -> str:
        return f"/servicesNS/{quote(self.owner)}/{quote(self.app)}/{quote(self.path, safe='/')}"

    def full_acl(self) -> dict[str, Any]:
        return {
            "app": self.app,
            "owner": self.owner,
            "sharing": self.sharing,
            "modifiable": True,
            "removable": True,
            "perms": {"read": ["*"], "write": ["admin"]},
            **self.acl,
        }


def _value_xml(value: Any) -> str:
    if isinstance(value, dict):
        keys = "".join(f"<s:key name={quoteattr(str(k))}>{_value_xml(v)}</s:key>" for k, v in value.items())
        return f"<s:dict>{keys}</s:dict>"
    if isinstance(value, (list, tuple)):
        return "<s:list>" + "".join(f"<s:item>{_value_xml(v)}</s:item>" for v in value) + "</s:list>"
    if isinstance(value, bool):
        return "1" if value else "0"
    return "" if value is None else escape(_valid_xml(str(value)))


def _valid_xml(text: str) -> str:
    """XML 1.0 has no control characters but tab and line ends."""
    return "".join(c for c in text if c >= " " or c in "\t\n\r")


def _updated() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())


def entry_xml(entry: Entry, *, root: bool = False) -> str:
    links = "".join(
        f'<link href={quoteattr(entry.href)} rel="{rel}"/>' for rel in ("alternate", *entry.links)
    )
    content = {**entry.content, "eai:acl": entry.full_acl()}
    space = f" {_SPACES}" if root else ""
    return (
        f"<entry{space}><title>{escape(entry.name)}</title><id>{escape(entry.href)}</id>"
        f"<updated>{_updated()}</updated>{links}<author><name>{escape(entry.owner)}</name></author>"
        f'<content type="text/xml">{_value_xml(content)}</content></entry>'
    )


def entry_json(entry: Entry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "id": entry.href,
        "updated": _updated(),
        "links": dict.fromkeys(("alternate", *entry.links), entry.href),
        "author": entry.owner,
        "acl": entry.full_acl(),
        "content": entry.content,
    }


def feed(request: Request, title: str, entries: list[Entry], status: int = 200) -> Response:
    """A page of entries: count (30 by default, 0 or -1 is all), offset, and `search` on the name or one field.

    `search=field=value` restricts the match to that field (REST API Reference, "Pagination and filtering parameters").
    """
    wanted = request.get("search").strip("*")
    if request.method == "GET" and wanted:
        field, is_field, value = wanted.partition("=")
        if is_field:
            entries = [e for e in entries if str(e.content.get(field, "")) == value]
        else:
            entries = [e for e in entries if wanted.lower() in e.name.lower()]
    total = len(entries)
    offset = request.number("offset", 0)
    count = request.number("count", 30)
    page = entries[offset:] if count <= 0 else entries[offset : offset + count]
    if request.wants_json:
        paging = {"total": total, "perPage": count, "offset": offset}
        value = {"links": {}, "origin": title, "updated": _updated(), "entry": [entry_json(e) for e in page]}
        return json_response({**value, "paging": paging, "messages": []}, status)
    body = (
        f"{_HEAD}<feed {_SPACES}><title>{escape(title)}</title><id>{escape(title)}</id>"
        f"<updated>{_updated()}</updated><opensearch:totalResults>{total}</opensearch:totalResults>"
        f"<opensearch:itemsPerPage>{count}</opensearch:itemsPerPage>"
        f"<opensearch:startIndex>{offset}</opensearch:startIndex><s:messages/>"
        f"{''.join(entry_xml(e) for e in page)}</feed>"
    )
    return Response(status, body.encode())


def single(request: Request, entry: Entry, status: int = 200) -> Response:
    """A search job stands alone at the root in XML (splunklib.client, Job._load_atom_entry)."""
    if request.wants_json:
        return json_response({"entry": [entry_json(entry)], "messages": []}, status)
    return Response(status, (_HEAD + entry_xml(entry, root=True)).encode())


def plain(request: Request, values: dict[str, str], status: int = 200) -> Response:
    """`<response><sid>..</sid></response>` and its JSON."""
    if request.wants_json:
        return json_response(values, status)
    inner = "".join(f"<{k}>{escape(v)}</{k}>" for k, v in values.items())
    return Response(status, f"{_HEAD}<response>{inner}</response>".encode())
