"""Users, roles, capabilities and sessions (authorize.conf of 10.2.3, facts/splunk_app.md section 6)."""

from __future__ import annotations

import secrets
import threading
from dataclasses import dataclass, field

from .apps import Apps

# A small part of Splunk's own capabilities: those that our searches, REST calls and tests ask for.
USER_CAPABILITIES = ("change_own_password", "get_metadata", "get_typeahead", "list_inputs", "output_file")
USER_CAPABILITIES += (
    "request_remote_tok",
    "rest_apps_view",
    "rest_properties_get",
    "rest_properties_set",
    "search",
)
POWER_CAPABILITIES = ("embed_report", "rtsearch", "schedule_search")
# list_storage_passwords is granted to admin alone (facts/splunk_app.md section 6).
ADMIN_CAPABILITIES = (
    "admin_all_objects",
    "edit_roles",
    "edit_user",
    "list_storage_passwords",
    "edit_storage_passwords",
)
ADMIN_CAPABILITIES += (
    "list_settings",
    "rest_apps_management",
    "edit_indexer_cluster",
    "dispatch_rest_to_indexers",
)


@dataclass
class Role:
    name: str
    capabilities: set[str] = field(default_factory=set)
    imports: list[str] = field(default_factory=list)


@dataclass
class User:
    name: str
    password: str
    roles: list[str]
    extra_capabilities: set[str] = field(default_factory=set)
    real_name: str = ""


class Accounts:
    def __init__(self, apps: Apps, admin_password: str) -> None:
        self._apps = apps
        self._lock = threading.Lock()
        self._sessions: dict[str, str] = {}
        self._system_token = self._new_key()
        self.roles: dict[str, Role] = {
            "user": Role("user", set(USER_CAPABILITIES)),
            "power": Role("power", set(POWER_CAPABILITIES), ["user"]),
            "admin": Role("admin", set(ADMIN_CAPABILITIES), ["power", "user"]),
        }
        self.users: dict[str, User] = {
            "admin": User("admin", admin_password, ["admin"], real_name="Administrator")
        }

    @staticmethod
    def _new_key() -> str:
        """About as long as a real session key (recordings of 8.2.1)."""
        return secrets.token_urlsafe(90)

    def all_roles(self) -> dict[str, Role]:
        """Splunk's and the tests' roles, with what the apps' authorize.conf adds."""
        roles = {n: Role(n, set(r.capabilities), list(r.imports)) for n, r in self.roles.items()}
        for app in self._apps:
            for stanza, settings in app.conf("authorize").items():
                if not stanza.startswith("role_"):
                    continue
                role = roles.setdefault(stanza[5:], Role(stanza[5:]))
                role.capabilities |= {k for k, v in settings.items() if v.lower() == "enabled"}
                role.imports += [r for r in settings.get("importRoles", "").split(";") if r]
        return roles

    def known_capabilities(self) -> list[str]:
        declared = {
            stanza.split("::", 1)[1]
            for app in self._apps
            for stanza in app.conf("authorize")
            if stanza.startswith("capability::")
        }
        return sorted(declared | {c for r in self.all_roles().values() for c in r.capabilities})

    def effective_roles(self, user: str) -> list[str]:
        roles, todo, found = self.all_roles(), list(self.users[user].roles), []
        while todo:
            name = todo.pop(0)
            if name not in found:
                found.append(name)
                todo += roles[name].imports if name in roles else []
        return found

    def capabilities(self, user: str) -> set[str]:
        roles = self.all_roles()
        granted = {
            c for name in self.effective_roles(user) if name in roles for c in roles[name].capabilities
        }
        return granted | self.users[user].extra_capabilities

    # Sessions

    def login(self, name: str, password: str) -> str | None:
        user = self.users.get(name)
        if user is None or not secrets.compare_digest(user.password, password):
            return None
        return self.session_for(name)

    def session_for(self, name: str) -> str:
        key = self._new_key()
        with self._lock:
            self._sessions[key] = name
        return key

    @property
    def system_token(self) -> str:
        """The token that passSystemAuth hands to a REST handler; it acts as splunk-system-user."""
        return self._system_token

    def user_of(self, key: str) -> str | None:
        if key == self._system_token:
            return "splunk-system-user"
        return self._sessions.get(key)

    def end_session(self, key: str) -> None:
        with self._lock:
            self._sessions.pop(key, None)

    def may(self, user: str, capability: str) -> bool:
        if user == "splunk-system-user":
            return True
        return capability in self.capabilities(user)
