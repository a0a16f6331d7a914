"""Server-sent events from bytes that arrive in any pieces. Pure: no I/O, standard library only.

The format is the one of the HTML standard, "Server-sent events", with one tolerance: an event that
the end of the input leaves without its blank line counts, for some servers omit it after [DONE].
"""

from codecs import getincrementaldecoder
from collections.abc import Iterator
from dataclasses import dataclass
from io import IncrementalNewlineDecoder

DEFAULT_MAX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event: `name` is "message" unless the server named it; data lines are joined by LF."""

    name: str
    data: str


class EventTooLong(ValueError):
    """A single event passed the cap: the peer is broken or hostile."""


class EventParser:
    """Holds the event in progress; the same input gives the same events however it is cut."""

    def __init__(self, max_bytes: int = DEFAULT_MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        # Characters and line ends may be cut in two by the packets.
        utf8 = getincrementaldecoder("utf-8-sig")("replace")
        self._decoder = IncrementalNewlineDecoder(utf8, translate=True)
        self._line: list[str] = []
        self._data: list[str] = []
        self._size = 0
        self._name = ""

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Yield the events that `data` completes; consume it fully before feeding again.

        Raises EventTooLong when one event holds more than the cap.
        """
        *ended, rest = self._decoder.decode(data).split("\n")
        for piece in ended:
            self._extend(piece)
            line = "".join(self._line)
            self._line.clear()
            yield from self._end_line(line)
        self._extend(rest)

    def close(self) -> Iterator[ServerEvent]:
        """Yield the event that the end of the input left open, if there is one."""
        yield from self.feed(b"\n\n")

    def _extend(self, piece: str) -> None:
        self._line.append(piece)
        self._size += len(piece)
        if self._size > self._max_bytes:
            raise EventTooLong(f"an event of more than {self._max_bytes} bytes")

    def _end_line(self, line: str) -> Iterator[ServerEvent]:
        field, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            return
        self._size -= len(line)
        if field == "event":
            self._name = value
        if not line:
            data, name = self._data, self._name
            self._data, self._name, self._size = [], "", 0
            if data:
                yield ServerEvent(name or "message", "\n".join(data))
