"""Keys, tokens and passwords that stand in a text: few patterns, exact rather than many.

The prefixes are those that their issuers publish so that leaked keys can be found (GitHub, AWS,
Slack, Stripe, Google …). What has no prefix is found where a line calls it by its name and it looks
random. Placeholders of documentation (`your-key`, `$TOKEN`, `<password>`) are none.
"""

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Lines of base64: a part of a private key, or of anything else. A passage may hold it without the
# line that says so, therefore it is not sent; the whole text says what it is.
ENCODED = "encoded lines"

_SHORTEST_TOKEN = 16
_RANDOM_BITS = 3.0  # entropy of a character: words and names lie below, hex digits at 3.5


@dataclass(frozen=True, slots=True)
class Sensitive:
    """A stretch of text that is not for everybody: `kind` names it, `text[start:end]` is it."""

    kind: str
    start: int
    end: int


# Kind, a mark without which the pattern need not be tried, and the pattern: its group `value`, or
# else the whole match, is the secret.
_PATTERNS = (
    (
        "private key",
        "PRIVATE KEY",
        r"-----BEGIN (?:[A-Z0-9]+ ){0,3}PRIVATE KEY(?: BLOCK)?-----(?:[^-]|-(?!----)){0,20000}"
        r"(?:-----END [A-Z0-9 ]{0,30}PRIVATE KEY(?: BLOCK)?-----)?",
    ),
    (
        ENCODED,
        "\n",
        r"(?m)^(?![0-9a-fA-F]{64}\n)[A-Za-z0-9+/]{64}\n(?:[A-Za-z0-9+/=]{1,64}(?:\n|\Z)){1,200}",
    ),
    ("API key", "sk-", r"sk-(?<!\wsk-)(?:[a-z]{2,8}\d{0,2}-){0,3}(?=[\w-]{0,99}\d)[\w-]{16,}"),
    ("Stripe key", "k_live_", r"[sr]k_live_[A-Za-z0-9]{16,}"),
    ("GitHub token", "gh", r"gh[opusr]_(?<!\wgh._)[A-Za-z0-9]{36,}"),
    ("GitHub token", "github_pat_", r"github_pat_\w{40,}"),
    ("GitLab token", "glpat-", r"glpat-[\w-]{20,}"),
    ("AWS key", "IA", r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b"),
    ("Slack token", "xox", r"xox[abeoprs]-[A-Za-z0-9-]{10,}"),
    ("Slack webhook", "hooks.slack.com", r"hooks\.slack\.com/services/(?P<value>[\w/]{20,})"),
    ("Google key", "AIza", r"AIza[\w-]{35}"),
    ("npm token", "npm_", r"npm_[A-Za-z0-9]{36}\b"),
    ("PyPI token", "pypi-", r"pypi-[\w-]{50,}"),
    ("Hugging Face token", "hf_", r"hf_(?<!\whf_)[A-Za-z0-9]{30,}\b"),
    ("SendGrid key", "SG.", r"SG\.[\w-]{20,24}\.[\w-]{40,50}"),
    ("JSON web token", "eyJ", r"eyJ[\w-]{8,}\.eyJ[\w-]{8,}\.[\w-]{8,}"),
    ("password in a URL", "://", r"://[^\s/:@]{0,64}:(?P<value>[^\s/@:]{3,200})@"),
)
_NAMED = re.compile(
    r"[\w.-]{0,20}[\"']?[ \t]{0,8}(?::=|=>|=|:)[ \t]{0,8}[\"']?"
    r"(?P<value>[^\s\"'`,;<>(){}\[\]|]{6,200})"
)
_WORD = re.compile(r"passw(?:or)?d|passphrase|pwd|secret|token|(?:api|access|auth|account)[_-]?key")
_PLACEHOLDER = re.compile(
    r"(?:your|(?:my|some|the|an?)[_-]|example|sample|dummy|fake|placeholder|change[_-]?me|redacted"
    r"|xxx|\*|\.\.|<|\$|\{|%|#|@|none$|null$|true$|false$|pass(?:w(?:or)?d)?$|pwd$|secret$|token$)",
    re.IGNORECASE,
)


def find_credentials(text: str) -> list[Sensitive]:
    """The secrets of a text in their order; none overlaps another."""
    return without_overlaps(_all(text))


def credential_kinds(text: str) -> tuple[str, ...]:
    """What kinds of secrets a text holds, each once, in their order."""
    kinds = dict.fromkeys(one.kind for one in find_credentials(text))
    return tuple(kind for kind in kinds if kind != ENCODED)


def without_overlaps(found: Iterable[Sensitive]) -> list[Sensitive]:
    """Stretches in the order of the text; of two that overlap the first, or else the longer."""
    kept: list[Sensitive] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if not kept or one.start >= kept[-1].end:
            kept.append(one)
    return kept


def _all(text: str) -> Iterator[Sensitive]:
    for kind, mark, pattern in _PATTERNS:
        for match in re.finditer(pattern, text) if mark in text else ():
            has_value = match.re.groups > 0
            start, end = match.span("value" if has_value else 0)
            if not (has_value and _PLACEHOLDER.match(text, start, end)):
                yield Sensitive(kind, start, end)
    # The one letter that is longer in lower case would move all offsets behind it.
    for word in _WORD.finditer(text.replace("\u0130", "i").lower()):
        named = _NAMED.match(text, word.end())
        is_password = word[0].startswith("p")
        if named and (_is_password if is_password else _is_token)(named["value"]):
            yield Sensitive("password" if is_password else "key or token", *named.span("value"))


def _is_password(value: str) -> bool:
    """Whether a value called a password is one: letters and digits, and no placeholder."""
    return _is_mixed(value) and not _PLACEHOLDER.match(value)


def _is_token(value: str) -> bool:
    """Whether a value called a key, a token or a secret looks random."""
    parts = re.split("[_.:-]", value)
    long_enough = len(value) >= _SHORTEST_TOKEN and max(map(len, parts)) >= _SHORTEST_TOKEN // 2
    return long_enough and any(map(_is_random, parts)) and not _PLACEHOLDER.match(value)


def _is_mixed(text: str) -> bool:
    return any(map(str.isalpha, text)) and any(map(str.isdigit, text))


def _is_random(part: str) -> bool:
    """Whether cases and digits alternate as they do in no word with a number, nor in a path."""
    runs = re.findall(r"[a-z]+|[A-Z]+|\d+", part)
    return _is_mixed(part) and len(runs) >= len(part) / 3 and _entropy(part) >= _RANDOM_BITS


def _entropy(text: str) -> float:
    """Shannon entropy in bits for each character."""
    shares = [count / len(text) for count in Counter(text).values()]
    return -sum(share * math.log2(share) for share in shares)
