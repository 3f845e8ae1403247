"""CSV or JSON lines from a file, a named pipe or standard input: to try a model, or where a program writes them."""

from __future__ import annotations

import csv
import os
import select
import stat
import sys
import threading
from collections.abc import Iterator, Mapping

from kepler_edge.checked import Section
from kepler_edge.errors import InvalidInput
from kepler_edge.inputs import Emit
from kepler_edge.inputs.payload import MAX_FIELDS, readings_of, time_in
from kepler_edge.reading import Reading

MAX_LINE_BYTES = 256 << 10
FORMATS = ("auto", "csv", "jsonl")
_POLL_S = 0.2
_BLOCK = 64 << 10


class FileInput:
    """One file, read to its end, or on and on where ``follow`` is set or it is a pipe.

    ``rate_per_s`` holds readings back to that rate; 0 reads as quickly as it can.
    """

    def __init__(
        self,
        name: str,
        path: str,
        *,
        format_: str = "auto",
        follow: bool = False,
        rate_per_s: float = 0.0,
        ts_field: str = "",
    ) -> None:
        self.name = name
        self.counts = {"read": 0, "wrong": 0, "dropped": 0}
        self._path = path
        self._format = format_
        self._follow = follow
        self._rest_s = 1 / rate_per_s if rate_per_s > 0 else 0.0
        self._ts_field = ts_field

    def run(self, emit: Emit, stop: threading.Event) -> None:
        """Hand over readings until ``stop`` or the end. Raises `InvalidInput` where the file cannot be read."""
        lines = self._lines(stop)
        first = next(lines, None)
        while first is not None and not first.strip():
            first = next(lines, None)
        if first is None:
            return
        as_json = self._format == "jsonl" or (self._format == "auto" and first.lstrip()[:1] in ("{", "["))
        for reading in self._json(first, lines) if as_json else self._csv(first, lines):
            self.counts["read"] += 1
            emit(reading)
            if stop.is_set() or (self._rest_s and stop.wait(self._rest_s)):
                return

    def _json(self, first: str, lines: Iterator[str]) -> Iterator[Reading]:
        line: str | None = first
        while line is not None:
            if line.strip():
                try:
                    yield from readings_of(line.encode(), self.name, ts_field=self._ts_field)
                except InvalidInput:
                    self.counts["wrong"] += 1
            line = next(lines, None)

    def _csv(self, first: str, lines: Iterator[str]) -> Iterator[Reading]:
        header: list[str] = next(iter(csv.reader([first])))
        if not header or len(header) > MAX_FIELDS or len(set(header)) < len(header):
            raise InvalidInput(f"The header of {self._path} has no fields, too many, or one twice")
        rows = csv.reader(lines)
        while True:
            try:
                row = next(rows)
            except StopIteration:
                return
            except csv.Error:
                self.counts["wrong"] += 1
                continue
            if len(row) != len(header):
                self.counts["wrong"] += bool(row)
                continue
            fields: dict[str, object] = dict(zip(header, row, strict=True))
            yield Reading(self.name, fields, time_in(fields, self._ts_field) if self._ts_field else None)

    def _lines(self, stop: threading.Event) -> Iterator[str]:
        """Whole lines; what is too long is dropped and counted."""
        try:
            # Not blocking: a pipe that nobody writes to must not keep the agent from ending.
            handle = (
                os.dup(sys.stdin.fileno())
                if self._path == "-"
                else os.open(self._path, os.O_RDONLY | os.O_NONBLOCK)
            )
        except OSError as error:
            raise InvalidInput(f"{self._path} cannot be read", cause=str(error)) from error
        pipe = self._path != "-" and stat.S_ISFIFO(os.fstat(handle).st_mode)
        left, skipping = b"", False
        try:
            while not stop.is_set():
                if not select.select([handle], [], [], _POLL_S)[0]:
                    continue
                try:
                    block = os.read(handle, _BLOCK)
                except BlockingIOError:
                    continue
                if not block:  # the end; of a pipe only that of a writer
                    if not (self._follow or pipe):
                        break
                    stop.wait(_POLL_S)
                    continue
                *whole, left = (left + block).split(b"\n")
                for line in whole:
                    if not skipping:
                        yield line.decode("utf-8", "replace").rstrip("\r") + "\n"
                    skipping = False
                if len(left) > MAX_LINE_BYTES:
                    self.counts["dropped"] += not skipping
                    left, skipping = b"", True
            if left and not skipping and not stop.is_set():
                yield left.decode("utf-8", "replace")
        finally:
            os.close(handle)


def open_input(settings: Mapping[str, object]) -> FileInput:
    """From the agent's settings: ``name path format follow rate_per_s ts_field``. Raises `InvalidInput`."""
    section = Section(settings, "The input")
    section.take("kind", "")
    opened = FileInput(
        section.text("name", max_chars=200),
        section.text("path", max_chars=4096),
        format_=section.choice("format", FORMATS) if "format" in section else "auto",
        follow=section.flag("follow", False),
        rate_per_s=section.number("rate_per_s", 0.0, low=0),
        ts_field=section.text("ts_field", "", max_chars=500),
    )
    section.done()
    return opened
