"""What servers send, of which nothing is sure: not that it is JSON, nor what stands where. Pure."""

import json
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any


def parsed(raw: str | bytes) -> object:
    """The JSON value, or the raw text where it is none; such text is never a mapping."""
    try:
        return json.loads(raw)
    except (ValueError, RecursionError):
        return str(raw)


def mapping(value: object) -> Mapping[str, Any]:
    """A JSON object; one without fields where it is none."""
    return value if isinstance(value, dict) else {}


def mappings(value: object) -> list[Mapping[str, Any]]:
    """The objects of a JSON list; none where it is no list."""
    return [*map(mapping, value)] if isinstance(value, list) else []


def number(value: str | None) -> float | None:
    """A header's number, at least 0; None where it is none."""
    try:
        found = float(value or "")
    except ValueError:
        return None
    return max(0.0, found) if math.isfinite(found) else None


def seconds_until(date: str, now: float, read: Callable[[str], datetime]) -> float | None:
    """From `now`, in seconds since the epoch, to a date that `read` reads; None for no date."""
    try:
        return max(0.0, read(date).timestamp() - now)
    except (ValueError, OverflowError):
        return None
