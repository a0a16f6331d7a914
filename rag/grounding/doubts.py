"""What speaks against a sentence whose words are found: a foreign name, an opposite, a denial.

Each is told by words alone, English and German. Together they raise AUROC on sentences labelled
by people; negations that only a source has were counted too, and do not (see
eval/benchmarks/verifier.py).
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterator

from ingest.words import terms
from rag.grounding.numbers import is_date_word

_NAME = re.compile(r"(?<=[\w,;:)\"'\u2019\u201d] )[^\W\d_a-z][\w\u2019'-]*\w")
_WORD = re.compile(r"[^\W\d_]+")
_MOST_CAPITALS = 0.4  # above: a title
_GERMAN = re.compile(r"\b(?:der|das|und|ist|nicht|wird|werden|eine?[mnrs]?)\b")
_DENIAL = re.compile(
    r"\b(?:not|no(?!\.)|never|without|neither|nor|none|nothing|nobody|cannot|unable|fail\w*|lack\w*"
    r"|absence|nicht|kein\w*|nie|niemals|ohne)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_PAIRS = (
    "increase/decrease increase/reduce increase/lower rise/fall raise/lower raise/reduce high/low "
    "higher/lower maximum/minimum large/small long/short longer/shorter early/late earlier/later "
    "fast/slow faster/slower strong/weak gain/loss profit/loss win/lose improve/worsen "
    "enhance/impair enhance/reduce promote/inhibit promote/suppress activate/inhibit "
    "activate/suppress stimulate/inhibit induce/inhibit induce/prevent cause/prevent "
    "facilitate/impair upregulate/downregulate allow/forbid allow/prohibit permit/prohibit "
    "required/optional mandatory/optional include/exclude accept/reject accept/refuse open/close "
    "enable/disable start/end begin/end first/last positive/negative presence/absence "
    "present/absent import/export buy/sell "
    "steigen/sinken steigt/sinkt erhöhen/senken hoch/niedrig höher/niedriger mindestens/höchstens "
    "erlaubt/verboten öffnen/schließen"
)
NEGATING = ("un", "in", "im", "il", "ir", "dis", "non", "de", "anti")
"""Prefixes that make a word its opposite, English and German."""


def _opposites() -> dict[str, frozenset[str]]:
    """The terms of a term's opposites."""
    found: defaultdict[str, frozenset[str]] = defaultdict(frozenset)
    for one, other in (pair.split("/") for pair in _PAIRS.split()):
        for term in terms(one):
            found[term] |= frozenset(terms(other))
        for term in terms(other):
            found[term] |= frozenset(terms(one))
    return dict(found)


_OPPOSITES = _opposites()


def missing_name(claim: str, known: Collection[str]) -> str | None:
    """The first name in a claim none of whose terms is among the known ones.

    A word with one capital, inside a sentence in which few have one, counts as a name; where
    nouns have one too, none does.
    """
    every = _WORD.findall(claim)
    capitals = sum(word[0].isupper() for word in every)
    if _GERMAN.search(claim) or capitals > _MOST_CAPITALS * len(every) + 1:
        return None
    for match in _NAME.finditer(claim):
        name = match.group()
        if not name.isalpha() or not name.istitle() or is_date_word(name):
            continue
        own = terms(name)
        if own and not any(term in known for term in own):
            return name
    return None


def reversed_word(claim: str, held: Collection[str]) -> str | None:
    """The first word of a claim that its sources lack while they have its opposite.

    `held` are the sources' terms. Opposites are the pairs above, and words that differ by a
    negating prefix.
    """
    for word in map(str, _WORD.findall(claim)):
        for term in terms(word):
            if term not in held and any(other in held for other in _opposites_of(term)):
                return word
    return None


def _opposites_of(term: str) -> Iterator[str]:
    yield from _OPPOSITES.get(term, ())
    for prefix in NEGATING:
        yield prefix + term
        if term.startswith(prefix):
            yield term.removeprefix(prefix)


def denies_alone(claim: str, source: str) -> bool:
    """Whether a claim denies something, and nothing in its source does."""
    return bool(_DENIAL.search(claim)) and not _DENIAL.search(source)
