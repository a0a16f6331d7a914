"""How fast an API lets one model be asked: limits from the settings, and what its headers tell.

The limits of the settings hold in every stretch of a minute. The headers are those of OpenAI
(`x-ratelimit-remaining-tokens: 149984`, `x-ratelimit-reset-tokens: 6m0s`), which most servers
have taken over, of Anthropic (the reset is a date), and the general `x-ratelimit-*` (seconds, or
a time since the epoch). Their limits are for a minute with one API and for a day with another:
what remains, and until when, is clear without that. Pure: the time is told to it.
"""

import re
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime

from rag.chat.foreign import number, seconds_until

_MINUTE_S = 60.0
_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhd]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhd])")
_EPOCH_S = 1e9  # a reset of more seconds than this is a time, and one of 1e12 is in milliseconds
_NAMES = (
    ("x-ratelimit-{}-requests", "anthropic-ratelimit-requests-{}", "x-ratelimit-{}"),
    ("x-ratelimit-{}-tokens", "anthropic-ratelimit-tokens-{}"),
)


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an API said was left at `told`, and how many seconds after that it is whole again."""

    limit: float
    remaining: float
    told: float
    reset_s: float

    def wait_s(self, needed: float, now: float) -> float:
        """Seconds until `needed` are there, if what is missing grows back evenly."""
        missing = needed - self.remaining
        if missing <= 0:
            return 0.0
        used = max(self.limit - self.remaining, missing)
        return max(0.0, self.told + self.reset_s * missing / used - now)


class Pace:
    """What one model may be sent and when; times are readings of a clock, in seconds.

    `rpm` requests and `tpm` tokens a minute, 0 for what the API tells.
    """

    def __init__(self, rpm: int = 0, tpm: int = 0) -> None:
        self._rpm = rpm
        self._tpm = tpm
        self._sent: deque[tuple[float, int]] = deque()  # in the last minute, and their tokens
        self._spent = 0
        self._allowed: dict[int, Allowance] = {}
        self._closed_until = 0.0

    def wait_s(self, tokens: int, now: float) -> float:
        """Seconds until a request of so many tokens may go; 0 if it may now."""
        needs = (1, tokens)
        told = (allowance.wait_s(needs[kind], now) for kind, allowance in self._allowed.items())
        return max(0.0, self._closed_until - now, self._window_wait_s(tokens, now), *told)

    def take(self, tokens: int, now: float) -> None:
        """A request goes out."""
        if self._rpm or self._tpm:
            self._sent.append((now, tokens))
            self._spent += tokens
        for kind, allowance in self._allowed.items():
            left = allowance.remaining - (1, tokens)[kind]
            self._allowed[kind] = replace(allowance, remaining=left)

    def close(self, until: float) -> None:
        """The API asked for quiet."""
        self._closed_until = max(self._closed_until, until)

    def learn(self, headers: Mapping[str, str], now: float, wall_clock: float) -> None:
        """Take in what a reply's headers say; `headers` are looked up in lower case."""
        for kind, names in enumerate(_NAMES):
            for name in names:
                limit, remaining, reset = (
                    headers.get(name.format(part), "") for part in ("limit", "remaining", "reset")
                )
                reset_s = _reset_s(reset, wall_clock)
                if remaining.isdecimal() and reset_s is not None:
                    whole = float(limit) if limit.isdecimal() else float(remaining)
                    self._allowed[kind] = Allowance(whole, float(remaining), now, reset_s)
                    break

    def _window_wait_s(self, tokens: int, now: float) -> float:
        """Until enough of the last minute's requests are more than a minute old."""
        while self._sent and self._sent[0][0] <= now - _MINUTE_S:
            self._spent -= self._sent.popleft()[1]
        requests, spent, wait = len(self._sent), self._spent, 0.0
        for at, freed in self._sent:
            few = not self._rpm or requests < self._rpm
            if few and (not self._tpm or spent + tokens <= self._tpm):
                break
            requests, spent, wait = requests - 1, spent - freed, at + _MINUTE_S - now
        return wait


def _reset_s(value: str, wall_clock: float) -> float | None:
    """Seconds until a reset: "6m0s", "120ms", "59.5", a time since the epoch, or an ISO date."""
    if _DURATION.fullmatch(value):
        return sum(float(count) * _UNITS_S[unit] for count, unit in _PART.findall(value))
    seconds = number(value)
    if seconds is None:
        return seconds_until(value, wall_clock, datetime.fromisoformat)
    if seconds > _EPOCH_S:
        seconds = (seconds / 1000 if seconds > _EPOCH_S * 1000 else seconds) - wall_clock
    return max(0.0, seconds) if seconds < _EPOCH_S else None
