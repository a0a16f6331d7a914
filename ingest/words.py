"""Words and index terms of any script: what both the lexical index and the verifier count.

A word keeps its place in the original text, so that a match can be shown. A term is what two
texts must share to be about the same thing: case, accents, endings and number formats removed.
Scripts written without spaces give overlapping character pairs, as Lucene's CJK analyser does.
"""

import re
import unicodedata
from functools import cache, lru_cache
from itertools import chain
from threading import Lock
from typing import NamedTuple

from Stemmer import Stemmer


class Word(NamedTuple):
    """A word: `text` is normalised, `start` and `end` are offsets in the original text."""

    text: str
    start: int
    end: int


# Ranges are given as escapes: most of these characters cannot be told apart on a screen.
_UNSPACED = (
    r"\u0e01-\u0e4e\u0e80-\u0ece\u1000-\u109f\u1780-\u17d3"  # Thai, Lao, Myanmar, Khmer
    r"\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    r"\uff66-\uff9f\uac00-\ud7af\U00020000-\U0003ffff"  # half-width kana, Hangul, rarer Han
)
# Marks that are part of a word though Python does not call them letters, with the invisible
# characters that stand inside words: soft hyphen, zero-width space, joiner and non-joiner.
_MARKS = (
    r"\u00ad\u0300-\u036f\u0483-\u0487\u0591-\u05bd\u05bf\u05c1-\u05c7\u0610-\u061a\u064b-\u065f"
    r"\u0670\u06d6-\u06dc\u06df-\u06ed\u0900-\u0963\u0971-\u0dff\u0f18-\u0fbc\u1ab0-\u1aff"
    r"\u1dc0-\u1dff\u200b-\u200d\u20d0-\u20ff\ufe00-\ufe0f\ufe20-\ufe2f"
)
_ASCII_WORD = re.compile(
    r"(?:[A-Za-z]\.){2,}"  # U.S.
    r"|\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)"  # 1,204.5
    r"|[vV]?\d+(?:\.\d+)+\w*"  # 3.11, v2.3.1, 3.0rc1
    r"|[A-Za-z]+(?:-\d+)+(?!\w)"  # E-1042
    r"|\w+(?:'[A-Za-z]+)*",
    re.ASCII,
)
_ANY_WORD = re.compile(
    rf"[{_UNSPACED}]+"
    r"|(?:[A-Za-z]\.){2,}"
    r"|\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\w)"
    rf"|[vV]?\d+(?:\.\d+)+[^\W{_UNSPACED}]*"
    r"|[A-Za-z]+(?:[-\u2010\u2011]\d+)+(?!\w)"
    rf"|[^\W{_UNSPACED}](?:[^\W{_UNSPACED}]|[{_MARKS}])*(?:['\u2019][^\W\d_{_UNSPACED}]+)*"
)
_UNSPACED_RUN = re.compile(rf"[{_UNSPACED}]+")
_INVISIBLE = re.compile("[\u00ad\u200b-\u200d\u2060\ufeff\ufe00-\ufe0f]")
# Accents fall from Latin and Greek letters only: in Cyrillic, Thai or Devanagari they are letters.
_ACCENTS = re.compile("(?<=[a-z\u03b1-\u03c9])[\u0300-\u036f]+|[\u0640\u064b-\u065f\u0670]")
_THOUSANDS = re.compile(r"\d{1,3}(?:,\d{3})+(?:\.\d+)?")
_QUANTITY = re.compile(r"(\d+(?:\.\d+)?)([a-z]{1,4})")
_CODE = re.compile(r"[a-z]+(?:-\d+)+")
_ORDINAL_ENDINGS = frozenset({"s", "st", "nd", "rd", "th"})
# Short capitals that would read as a pronoun or a question word once their case is folded.
_CAPITALS = frozenset({"IT", "US", "WHO"})

_STOP_WORD_LIST = """
    a about above after again all also am an and any are as at be because been before being below
    between both but by can could did do does doing done down during each eg either else etc ever
    few for from further had has have having he her here hers herself him himself his how i ie if
    in into is it its itself just let me mine more most much must my myself nor no not of off on
    once only or other our ours ourselves out over own per please quite rather same shall she
    should so some such tell than that the their theirs them themselves then there these they this
    those through to too under until up upon us very via was we were what whatever when where
    whether which while who whoever whom whose why will with within without would yet you your
    yours yourself yourselves
    der das den dem des ein eine einen einem einer eines und oder aber ist sind waren wird werden
    wurde wurden wer wie wo wann warum welche welcher welches von vom zu zum zur im auf auch aus
    bei durch er sie ich wir ihr nicht nach sich als bis dass fur uber wenn beim es du mich uns
    gibt habe haben hatte hatten kann konnen konnte muss mussen soll sollen sollte darf durfen
    dieser diese dieses diesem diesen jede jeder jedes jedem jeden kein keine keinen keiner unser
    unsere unseren ihre ihren ihrer noch nur schon sehr mehr ob dort hier doch denn dann seit gegen
    ohne unter vor wahrend wem wessen wieso weshalb woher wohin womit wofur wieviel bitte
"""
STOP_WORDS = frozenset(_STOP_WORD_LIST.split())
"""English and German function and question words; German ones that are English words are not."""

# ISO 639-1 codes, by which Snowball knows its algorithms too.
_LATIN_CODES = "ca cs da de en es et eu fi fr ga hu id it lt nl no pl pt ro sv tr"
_OTHER_CODES = "ar el fa hi hy ru sr ta"
_LATIN = frozenset(_LATIN_CODES.split())
_STEMMED = _LATIN | frozenset(_OTHER_CODES.split())
_stemmer_lock = Lock()  # a Snowball stemmer keeps its working buffer between calls


def words(text: str) -> list[Word]:
    """The words of a text in order; a run of a script without spaces is one word."""
    pattern = _ASCII_WORD if text.isascii() else _ANY_WORD
    return [Word(normalise(m.group()), m.start(), m.end()) for m in pattern.finditer(text)]


def terms(text: str, language: str = "en") -> list[str]:
    """The index terms of a text in order: stop words dropped, words stemmed, none empty.

    `language` is an ISO 639-1 code; see `stemming`. The same text has equally many terms in every
    language.
    """
    pattern, how = _ASCII_WORD if text.isascii() else _ANY_WORD, stemming(language)
    return list(chain.from_iterable(_word_terms(word, how) for word in pattern.findall(text)))


def latin_share(text: str) -> float:
    """The share of Latin letters among the letters of a text; 1 where it has none."""
    letters = [character for character in text if character.isalpha()]
    latin = sum(c.isascii() or unicodedata.name(c, "").startswith("LATIN") for c in letters)
    return latin / len(letters) if letters else 1.0


def stemming(language: str) -> str:
    """The language whose endings are taken off in texts of this one: itself, or English."""
    return language if language in _STEMMED else "en"


@lru_cache(maxsize=1 << 16)
def normalise(word: str) -> str:
    """One word, case folded, accents and invisible characters gone, `1,204.5` as `1204.5`."""
    if word.isascii():
        folded = word.lower()
    else:
        folded = unicodedata.normalize("NFKC", _INVISIBLE.sub("", word)).casefold()
        folded = _ACCENTS.sub("", unicodedata.normalize("NFKD", folded))
        folded = unicodedata.normalize("NFC", folded).replace("\u2019", "'")
        folded = folded.replace("\u2010", "-").replace("\u2011", "-")
    if "," in folded and _THOUSANDS.fullmatch(folded):
        folded = folded.replace(",", "")
    return folded


@lru_cache(maxsize=1 << 16)
def _word_terms(word: str, language: str) -> tuple[str, ...]:
    """The terms one word stands for; cached because a collection repeats its words."""
    folded = normalise(word)
    if _UNSPACED_RUN.fullmatch(folded):
        return tuple(folded[i : i + 2] for i in range(max(1, len(folded) - 1)))
    folded = folded.replace(".", "") if word[-1] == "." else folded
    if "'" in folded:
        folded = _without_apostrophe(folded)
    if (folded in STOP_WORDS and word.replace(".", "") not in _CAPITALS) or not folded.strip("_"):
        return ()
    return _parts(folded, language)


def _without_apostrophe(word: str) -> str:
    """The word that carries the meaning: `company's` gives `company`, `don't` nothing."""
    head, _, tail = word.partition("'")
    if word.endswith("n't") or (head in STOP_WORDS and len(tail) <= 2):
        return ""
    return head if len(head) >= len(tail) else tail  # l'homme: the longer part


def _parts(word: str, language: str) -> tuple[str, ...]:
    """A word as terms: an identifier also as its parts, a quantity as number and unit."""
    if "_" in word:
        parts = [part for part in word.split("_") if part]
        stems = [_stem(part, language) for part in parts]
        return tuple(stems) if len(stems) == 1 else ("_".join(parts), *stems)
    if _CODE.fullmatch(word):
        parts = word.split("-")
        return ("".join(parts), _stem(parts[0], language), *parts[1:])
    if word[0] == "v" and "." in word:
        return (word[1:],)
    if quantity := _QUANTITY.fullmatch(word):
        number, unit = quantity.groups()
        return (number,) if unit in _ORDINAL_ENDINGS else (number, unit)
    return (_stem(word, language),)


def _stem(word: str, language: str) -> str:
    """The Snowball stem of a word; Latin words in texts of other scripts count as English."""
    if len(word) < 3 or not word.isalpha():
        return word
    # English leaves letters of other scripts alone.
    known = _LATIN if word.isascii() else _STEMMED
    with _stemmer_lock:
        return str(_stemmer(language if language in known else "en").stemWord(word))


@cache
def _stemmer(language: str) -> Stemmer:
    return Stemmer(language, 0)
