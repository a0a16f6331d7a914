"""What a file says about itself, in one form for all formats: author, date, tags, language.

Dates become ISO 8601, so that comparing them as text compares them in time.
"""

import re
from collections.abc import Mapping

from ingest.loaders.decode import one_line

_ISO = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?(?!\d)")
_YEAR = re.compile(r"(?<!\d)\d{4}(?!\d)")
_AMBIGUOUS = re.compile(r"\s*(\d{1,2})/(\d{1,2})/\d{4}\b")


def described(values: Mapping[str, str]) -> dict[str, str]:
    """Metadata without empty values, each on one line; `date` as ISO 8601 or left out."""
    lines = {name: one_line(value) for name, value in values.items()}
    if "date" in lines:
        lines["date"] = iso_date(lines["date"])
    return {name: line for name, line in lines.items() if line}


def iso_date(text: str) -> str:
    """A date as `2024-05-31`, or as far as it is known (`2024-05`); "" for what is no date.

    A date that Americans and others read differently (03/04/2024) is no date either.
    """
    if found := _ISO.match(text.strip()):
        return "-".join(filter(None, found.groups()))
    if re.fullmatch(r"\s*\d{4}\s*", text):
        return text.strip()
    ambiguous = _AMBIGUOUS.match(text)
    if ambiguous and max(map(int, ambiguous.groups())) <= 12:
        return ""
    if not _YEAR.search(text):  # the parser would take today's
        return ""
    from dateutil.parser import ParserError, parse

    try:
        return str(parse(text, dayfirst="." in text).date())
    except (ParserError, OverflowError, ValueError):
        return ""
