"""Server-sent events from bytes that arrive in any pieces. Pure: no I/O, standard library only.

The format is the one of the HTML standard, "Server-sent events", with one tolerance: an event that
the end of the input leaves without its blank line counts, for some servers omit it after [DONE].
"""

from collections.abc import Iterator
from dataclasses import dataclass

DEFAULT_MAX_BYTES = 1 << 20
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


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
        self._line = bytearray()
        self._data: list[str] = []
        self._data_bytes = 0
        self._name = ""
        self._first_line = True
        self._after_carriage_return = False

    def feed(self, data: bytes) -> Iterator[ServerEvent]:
        """Yield the events that `data` completes; consume it fully before feeding again.

        Raises EventTooLong when one event holds more than the cap.
        """
        # The line feed of a pair ends no line of its own, also where it opens the next piece.
        if self._after_carriage_return and data.startswith(b"\n"):
            data = data[1:]
            self._after_carriage_return = False
        if not data:
            return
        self._after_carriage_return = data.endswith(b"\r")
        *ended, rest = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n").split(b"\n")
        for piece in ended:
            self._extend(piece)
            line = bytes(self._line)
            self._line.clear()
            yield from self._end_line(line)
        self._extend(rest)

    def close(self) -> Iterator[ServerEvent]:
        """Yield the event that the end of the input left open, if there is one."""
        line = bytes(self._line)
        self._line.clear()
        if line:
            yield from self._end_line(line)
        yield from self._dispatch()

    def _extend(self, piece: bytes) -> None:
        self._line += piece
        if self._data_bytes + len(self._line) > self._max_bytes:
            raise EventTooLong(f"an event of more than {self._max_bytes} bytes")

    def _end_line(self, line: bytes) -> Iterator[ServerEvent]:
        if self._first_line:
            line = line.removeprefix(_BYTE_ORDER_MARK)
            self._first_line = False
        if not line:
            yield from self._dispatch()
            return
        # Lines are decoded whole, so that a character split over two packets stays one.
        field, _, value = line.decode("utf-8", errors="replace").partition(":")
        value = value.removeprefix(" ")
        if field == "data":
            self._data.append(value)
            self._data_bytes += len(line)
        elif field == "event":
            self._name = value

    def _dispatch(self) -> Iterator[ServerEvent]:
        data, name = self._data, self._name
        self._data, self._name, self._data_bytes = [], "", 0
        if data:
            yield ServerEvent(name or "message", "\n".join(data))
