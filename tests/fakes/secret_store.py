"""Secrets in memory, for tests that need some and not their storage."""

from __future__ import annotations

from kepler.core.errors import NotFound


class InMemorySecretStore:
    """Implements `ports.security.SecretStore`; passes its contract suite."""

    def __init__(self) -> None:
        self.values: dict[str, str] = {}

    def set(self, name: str, value: str) -> None:
        self.values[name] = value

    def get(self, name: str) -> str:
        if name not in self.values:
            raise NotFound(f"There is no secret {name!r}")
        return self.values[name]

    def setdefault(self, name: str, value: str) -> str:
        return self.values.setdefault(name, value)

    def names(self) -> list[str]:
        return sorted(self.values)

    def delete(self, name: str) -> None:
        if name not in self.values:
            raise NotFound(f"There is no secret {name!r}")
        del self.values[name]
