"""Commands from afar: each is done once, whatever the line repeats or somebody replays."""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

from .clock import Clock
from .durable import Durable
from .errors import KeplerError
from .frames import canonical, clean
from .log import Log

VERBS = ("ping", "diag", "logs", "rebirth", "flush", "pause", "resume", "rollback", "rotate-cert")
ID = re.compile(r"[0-9a-f]{16,32}")
KEPT_ANSWERS = 128
MAX_KEPT_BYTES = 4096
PART_CHARS = 48_000

Answer = dict[str, object]
Handler = Callable[[Mapping[str, object]], Answer]
Send = Callable[[str, dict[str, object]], None]


class Commands:
    """Checks, remembers and answers commands.

    Parameters
    ----------
    home
        The answers are kept in ``commands.json`` below it.
    replies
        Topic below which answers may go.
    handlers
        By verb: takes the arguments, returns the answer's ``data``. What it raises becomes a `failed`.
    send
        Publishes a reply on a topic.
    """

    def __init__(
        self, home: Path, replies: str, handlers: Mapping[str, Handler], send: Send, clock: Clock, log: Log
    ) -> None:
        self._memory = Durable(home / "commands.json")
        self._replies = replies
        self._handlers = handlers
        self._send = send
        self._clock = clock
        self._log = log
        self.refused = 0

    def take(self, verb: str, message: dict[str, object]) -> None:
        """Does a command whose signature held. Nonsense is counted and ignored."""
        name, n, reply_to = message.get("id"), message.get("n"), message.get("reply_to")
        if not (
            message.get("v") == 1
            and message.get("verb") == verb
            and verb in VERBS
            and isinstance(name, str)
            and ID.fullmatch(name)
            and isinstance(n, int)
            and not isinstance(n, bool)
            and isinstance(reply_to, str)
            and self._may_answer_on(reply_to)
        ):
            self._refuse(verb, "it is no command, or wants its answer elsewhere")
            return
        kept = self._answers().get(name)
        if kept is not None:
            self._repeat(reply_to, name, kept)
            return
        if n <= self._memory.number("n"):
            self._refuse(verb, "its number was used already")
            return
        expires = message.get("expires")
        if isinstance(expires, (int, float)) and self._clock.sync().sync and expires < self._clock.stamp().ts:
            self._refuse(verb, "it has expired")
            return
        # On disk before it is done: after a crash it is not done a second time.
        self._keep(name, {"stage": "failed", "text": "The agent was restarted while it did this."}, n)
        self._send(reply_to, {"v": 1, "id": name, "stage": "ack"})
        args = message.get("args")
        self._do(verb, cast("dict[str, object]", args) if isinstance(args, dict) else {}, reply_to, name)

    def _do(self, verb: str, args: dict[str, object], reply_to: str, name: str) -> None:
        try:
            handler = self._handlers[verb]
            answer = cast("Answer", clean(handler(args)))
            stage, text = "done", ""
        except KeplerError as error:
            answer, stage, text = {}, "failed", error.sentence[:2000]
        except Exception as error:
            answer, stage, text = {}, "failed", f"It failed inside: {type(error).__name__}."
            self._log.error("command.failed", verb=verb, reason=f"{type(error).__name__}: {error}")
        kept: dict[str, object] = {"stage": stage, "text": text, "data": answer}
        if len(canonical(kept)) > MAX_KEPT_BYTES:
            self._keep(name, {"stage": stage, "text": "It was answered before; ask again under a new id."})
        else:
            self._keep(name, kept)
        self._log.info("command.done", verb=verb, stage=stage, text=text or None)
        self._answer(reply_to, name, kept)

    def _answer(self, reply_to: str, name: str, kept: Mapping[str, object]) -> None:
        data = cast("Answer", kept.get("data") or {})
        body = canonical(data)
        if len(body) <= PART_CHARS:
            reply: dict[str, object] = {
                "v": 1,
                "id": name,
                "stage": kept["stage"],
                "text": kept.get("text", ""),
            }
            self._send(reply_to, reply | ({"data": data} if data else {}))
            return
        packed = base64.b64encode(zlib.compress(body, 6)).decode("ascii")
        parts = [packed[at : at + PART_CHARS] for at in range(0, len(packed), PART_CHARS)]
        for number, part in enumerate(parts):
            stage = kept["stage"] if number == len(parts) - 1 else "progress"
            self._send(
                reply_to,
                {
                    "v": 1,
                    "id": name,
                    "stage": stage,
                    "data": {"zlib": part},
                    "part": number,
                    "parts": len(parts),
                },
            )

    def _repeat(self, reply_to: str, name: str, kept: object) -> None:
        self._answer(reply_to, name, cast("dict[str, object]", kept))

    def _answers(self) -> dict[str, object]:
        found = self._memory.get("answers")
        return dict(cast("list[tuple[str, object]]", found)) if isinstance(found, list) else {}

    def _keep(self, name: str, answer: dict[str, object], n: int | None = None) -> None:
        answers = self._answers() | {name: json.loads(canonical(answer))}
        items = [[key, value] for key, value in answers.items()][-KEPT_ANSWERS:]
        self._memory.put(answers=items, n=self._memory.number("n") if n is None else n)

    def _may_answer_on(self, topic: str) -> bool:
        rest = topic.removeprefix(f"{self._replies}/")
        return rest != topic and 0 < len(rest) <= 128 and not set("#+\0") & set(rest) and topic.isprintable()

    def _refuse(self, verb: str, reason: str) -> None:
        self.refused += 1
        self._log.warning("command.refused", verb=verb[:20], reason=reason)
