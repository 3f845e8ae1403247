"""The stand-in as tests and the demo hold it."""

from __future__ import annotations

import itertools
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from .accounts import Accounts, Role, User
from .apps import App, Apps, CustomCommand, app_name
from .engine import Outcome, SearchResult, run_search
from .events import EventStore, parse_time
from .hec import Hec
from .http_server import RestServer
from .interpreters import find_python
from .jobs import Jobs
from .lookups import Lookups, LookupSource
from .persistent import PersistentHandlers
from .rest_conf import MASK
from .runner import Log
from .search_context import RunConfig, SearchContext
from .secrets_store import SecretStore
from .web import Request, Response

SPLUNK_VERSION = "9.4.6"


class Splunkd:
    """One splunkd stand-in: searches through apps' real commands, and the REST API that splunk-sdk uses.

    Parameters
    ----------
    apps
        Folders of apps (the id is read from app.conf or app.manifest), or a mapping of id to folder.
    lookups
        A folder of CSV files, or a mapping of file name to path, text or bytes.
    python
        "3.9", "3.13", a path, or None for the running interpreter.
    env
        More environment variables for every script. PYTHONPATH and the like are never inherited.
    tls
        Serve HTTPS with a certificate made at start.
    listen
        False keeps the REST API away: searches still run, and nothing opens a socket.
    splunk_version
        What server/info and getinfo say.

    The rest of the parameters is in `RunConfig`.
    """

    def __init__(
        self,
        apps: Iterable[str | Path] | Mapping[str, str | Path] = (),
        lookups: LookupSource = None,
        *,
        python: str | None = None,
        env: Mapping[str, str] | None = None,
        tls: bool = False,
        host: str = "127.0.0.1",
        port: int = 0,
        listen: bool = True,
        admin_password: str = "changeme-standin",
        splunk_version: str = SPLUNK_VERSION,
        chunk_rows: int = 50_000,
        probes: int = 1,
        preview: bool | str = False,
        last_chunk: str = "auto",
        on_message: Callable[[str, str, bytes], None] | None = None,
    ) -> None:
        self.splunk_version = splunk_version
        self.admin_password = admin_password
        self.config = RunConfig(chunk_rows=chunk_rows, probes=probes, preview=preview, last_chunk=last_chunk)
        self.on_message = on_message
        self._python = python
        self._env = dict(env or {})
        self._tls, self._host, self._port, self._listen = tls, host, port, listen
        self._counter = itertools.count(1)
        self._lock = threading.Lock()
        self.splunk_home = Path(tempfile.mkdtemp(prefix="splunkd-standin-"))
        for folder in (
            "etc/apps",
            "etc/users",
            "var/log/splunk",
            "var/run/splunk/dispatch",
            "var/lib/splunk",
        ):
            (self.splunk_home / folder).mkdir(parents=True)
        self.apps = Apps()
        self.apps.install("search", self._own_app("search"))
        named = apps.items() if isinstance(apps, Mapping) else ((app_name(Path(p)), p) for p in apps)
        for name, path in named:
            self.install_app(name, path)
        self.accounts = Accounts(self.apps, admin_password)
        self.events = EventStore()
        self.hec = Hec(self)
        self.lookups = Lookups(self.apps, self.splunk_home / "var" / "lib" / "lookups", lookups)
        self.secrets = SecretStore()
        self.guid = str(uuid.uuid4()).upper()
        self.jobs = Jobs(self)
        self.handlers = PersistentHandlers(self)
        self.access_log: deque[str] = deque(maxlen=1000)
        self.intercept: Callable[[Request], Response | None] | None = None
        """Answers in splunkd's place where it gives a response: a proxy's page, or content that lacks a key."""
        self._server: RestServer | None = None

    def _own_app(self, name: str) -> Path:
        path = self.splunk_home / "etc" / "apps" / name
        path.mkdir(parents=True)
        return path

    def install_app(self, name: str, path: str | Path) -> App:
        """Link the folder into etc/apps under its id and read it from there, as splunkd would."""
        source = Path(path).resolve()
        if not source.is_dir():
            raise FileNotFoundError(
                f"There is no app folder {source}; build the app, or name its package folder."
            )
        link = self.splunk_home / "etc" / "apps" / name
        link.symlink_to(source, target_is_directory=True)
        return self.apps.install(name, link)

    # Life

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> Self:
        if self._listen:
            self._server = RestServer(self, self._host, self._port, tls=self._tls)
            self._server.start()
        return self

    def stop(self) -> None:
        self.hec.stop()
        self.jobs.stop()
        self.handlers.stop()
        if self._server is not None:
            self._server.stop()
            self._server = None
        shutil.rmtree(self.splunk_home, ignore_errors=True)

    @property
    def uri(self) -> str:
        """Where the REST API is; the usual address of splunkd where it does not listen."""
        return self._server.uri if self._server is not None else "https://127.0.0.1:8089"

    @property
    def port(self) -> int:
        return self._server.port if self._server is not None else 8089

    @property
    def ca_file(self) -> Path | None:
        """The CA that signed our certificate, where TLS is on."""
        made = self._server.certificate if self._server is not None else None
        return made.ca_file if made is not None else None

    def sdk_kwargs(self, user: str = "admin", **more: Any) -> dict[str, Any]:
        """Arguments for `splunklib.client.connect`."""
        if self._server is None:
            raise RuntimeError("This stand-in does not listen. Start it with listen=True, in a `with` block.")
        return {
            "scheme": self._server.scheme,
            "host": self._server.host,
            "port": self._server.port,
            "username": user,
            "password": self.accounts.users[user].password,
            **more,
        }

    # Accounts and secrets

    def add_role(self, name: str, capabilities: Iterable[str] = (), imports: Iterable[str] = ()) -> None:
        self.accounts.roles[name] = Role(name, set(capabilities), list(imports))

    def add_user(
        self, name: str, password: str, roles: Iterable[str] = ("user",), capabilities: Iterable[str] = ()
    ) -> None:
        self.accounts.users[name] = User(name, password, list(roles), set(capabilities))

    def add_token(self, user: str) -> str:
        """A token for `Authorization: Bearer`, which outlives logins."""
        return self.accounts.session_for(user)

    def set_password(self, app: str, realm: str, username: str, clear: str) -> None:
        """Put a secret into storage/passwords."""
        self.secrets.set(app, realm, username, clear)

    def set_app_conf(self, app: str, conf: str, stanza: str, values: Mapping[str, str]) -> None:
        """Write settings into an app's conf, as its page would; the app's own files stay as they are."""
        owner = self.apps.get(app)
        if owner is None:
            raise LookupError(f"There is no app {app}; installed are {', '.join(a.name for a in self.apps)}.")
        owner.written.setdefault(conf, {}).setdefault(stanza, {}).update(values)

    def set_app_secret(self, app: str, conf: str, stanza: str, values: Mapping[str, str]) -> None:
        """Save encrypted fields of a UCC page: masked in the conf, their values in storage/passwords."""
        self.set_app_conf(app, conf, stanza, dict.fromkeys(values, MASK))
        self.secrets.set_ucc(app, conf, stanza, dict(values))

    # Searching

    @property
    def python(self) -> str:
        """The interpreter that runs scripts; raises `InterpreterMissing` where there is none."""
        return find_python(self._python)

    def script_environment(self) -> dict[str, str]:
        """What a script finds: Splunk's own variables, and of ours only what it needs to start at all."""
        kept = {k: os.environ[k] for k in ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR") if k in os.environ}
        return {
            **kept,
            "SPLUNK_HOME": str(self.splunk_home),
            "SPLUNK_DB": str(self.splunk_home / "var" / "lib" / "splunk"),
            "SPLUNK_ETC": str(self.splunk_home / "etc"),
            "SPLUNK_SERVER_NAME": "Splunkd",
            "SPLUNK_WEB_NAME": "splunkweb",
            **self._env,
        }

    def new_sid(self) -> str:
        """Like 1629786722.117: the second, a dot, a counter (recordings of 8.2.1)."""
        return f"{int(time.time())}.{next(self._counter)}"

    def context(
        self,
        search: str,
        *,
        user: str = "admin",
        app: str = "search",
        session_key: str | None = None,
        earliest: str | float | None = None,
        latest: str | float | None = None,
        sid: str | None = None,
        config: RunConfig | None = None,
    ) -> SearchContext:
        now = time.time()
        sid = sid or self.new_sid()
        return SearchContext(
            search=search,
            sid=sid,
            app=app,
            owner=user,
            username=user,
            session_key=session_key or self.accounts.session_for(user),
            splunkd_uri=self.uri,
            splunk_version=self.splunk_version,
            dispatch_dir=self.splunk_home / "var" / "run" / "splunk" / "dispatch" / sid,
            config=config or self.config,
            apps=self.apps,
            lookups=self.lookups,
            events=self.events,
            python=self.python,
            environment=self.script_environment(),
            splunk_home=self.splunk_home,
            now=now,
            earliest=parse_time(earliest, now),
            latest=parse_time(latest, now),
            log=Log(),
            on_message=self.on_message,
            may_run=lambda custom: self.may_run(user, custom),
        )

    def may_run(self, user: str, custom: CustomCommand) -> bool:
        """Whether the command's read ACL in metadata names one of the user's roles (facts/splunk_app.md section 6)."""
        readers = custom.app.readers("commands", custom.name)
        return "*" in readers or bool(set(readers) & set(self.accounts.effective_roles(user)))

    def search(
        self,
        search: str,
        *,
        user: str = "admin",
        app: str = "search",
        earliest: str | float | None = None,
        latest: str | float | None = None,
    ) -> SearchResult:
        """Run a search to its end, without REST and without a row limit."""
        context = self.context(search, user=user, app=app, earliest=earliest, latest=latest)
        outcome = run_search(context, Outcome())
        return SearchResult(
            rows=outcome.table.rows(),
            fields=outcome.table.fields,
            messages=list(context.log.messages),
            state=outcome.state,
            is_failed=outcome.is_failed,
            stderr="\n".join(context.log.stderr),
            log=context.log.text(),
            sid=context.sid,
            preview=outcome.preview.rows(),
            table=outcome.table,
        )
