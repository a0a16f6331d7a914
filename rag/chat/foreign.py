"""JSON from a server, of which nothing is sure: not that it is JSON, nor what stands where."""

import json
from collections.abc import Mapping
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
