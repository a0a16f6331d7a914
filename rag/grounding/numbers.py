"""The numbers of a text, in a form in which two ways of writing one number are equal.

"1,204", "1204" and "1.2 thousand" meet; so do "two" and "2", "May" and "5" (dates), "31.03.2021"
and "31 March 2021", and a number and its rounding. A number written with digits in a claim must
be in its sources: a number made up, or copied wrongly, is the plainest mistake a language model
makes. Words are read in English and German.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

_UNITS = (
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen "
    "fifteen sixteen seventeen eighteen nineteen"
)
_ORDINALS = (
    "zeroth first second third fourth fifth sixth seventh eighth ninth tenth eleventh twelfth"
)
_TENS = "twenty thirty forty fifty sixty seventy eighty ninety"
_MONTHS = "january february march april may june july august september october november december"
_DAYS = "monday tuesday wednesday thursday friday saturday sunday"
_GERMAN_UNITS = "null eins zwei drei vier fünf sechs sieben acht neun zehn elf zwölf"
_GERMAN_MONTHS = (
    "januar februar märz april mai juni juli august september oktober november dezember"
)
_GERMAN_DAYS = "montag dienstag mittwoch donnerstag freitag samstag sonntag"
_DATE_WORDS = frozenset(" ".join((_MONTHS, _DAYS, _GERMAN_MONTHS, _GERMAN_DAYS)).split())
_COUNTED = ((_UNITS, 0), (_ORDINALS, 0), (_MONTHS, 1), (_GERMAN_UNITS, 0), (_GERMAN_MONTHS, 1))
_WORDS: dict[str, float] = {
    **{word: value for names, first in _COUNTED for value, word in enumerate(names.split(), first)},
    **{word[:3]: value for value, word in enumerate(_MONTHS.split(), 1)},
    **{word: 10 * value for value, word in enumerate(_TENS.split(), 2)},
    "once": 1,
    "twice": 2,
    "half": 0.5,
    "dozen": 12,
}
_SCALES: dict[str, float] = {
    "hundred": 1e2,
    "thousand": 1e3,
    "million": 1e6,
    "billion": 1e9,
    "trillion": 1e12,
    "k": 1e3,
    "mn": 1e6,
    "bn": 1e9,
    "m": 1e6,
    "b": 1e9,
}
_HEDGE = (
    r"(?P<hedge>\b(?:about|around|approximately|approx\.|roughly|nearly|almost|over|some|"
    r"more than|less than|at least|up to|under|circa|ca\.)\s+|~\s?)?[$\u20ac\u00a3\u00a5]?"
)
_DIGITS = (
    r"(?P<digits>\d{1,3}(?:,\d{3})+(?:\.\d+)?(?!\d)|\d+(?:\.\d+)*)"
    r"(?:(?P<scale>[kmb]|bn|mn)\b|[\s-]?(?P<word>hundred|thousand|million|billion|trillion)s?\b)?"
    r"(?P<percent>\s?(?:%|percent\b|per cent\b))?"
)
_NUMBER = re.compile(rf"(?<!\d){_DIGITS}", re.IGNORECASE)
# In a claim, digits inside a word (Th2, H2O) are part of a name; v2 is a version.
_CLAIMED = re.compile(rf"{_HEDGE}(?<![A-Za-uw-z\d]){_DIGITS}", re.IGNORECASE)
_ALPHABETIC = re.compile(r"[^\W\d_]+")
_DOTTED_DATE = re.compile(r"(?<![\d.])([0-3]?\d)\.([01]?\d)\.((?:19|20)\d\d)(?![\d.]*\d)")
# Where a comma begins the decimals, and dots part the thousands: 1.204,5 and 2,5.
_CONTINENTAL = re.compile(
    r"(?<![\d.,])(?:\d{1,3}(?:\.\d{3})+(?:,\d+)?|\d+,\d+)(?![.,]?\d)(?:\s?(?P<percent>%))?"
)


@dataclass(frozen=True, slots=True)
class Number:
    """A number as written: `value` is `mantissa * scale`; `step` is the mantissa's precision.

    A version such as 2.3.1 has no value: `text` alone tells it from another.
    """

    text: str
    value: float | None
    mantissa: float = 0.0
    scale: float = 1.0
    step: float = 1.0
    percent: bool = False


@lru_cache(maxsize=1024)
def source_numbers(text: str) -> tuple[Number, ...]:
    """Every number a source gives: with digits, as words, and months by their place in a year."""
    other = map(_continental_number, _CONTINENTAL.finditer(_with_dates_apart(text)))
    return (*_written_numbers(text), *other, *_spelled_numbers(text))


def missing_number(claim: str, sources: Sequence[str]) -> str | None:
    """The first number of a claim that no source gives, as the claim writes it."""
    for match in _CLAIMED.finditer(_with_dates_apart(claim)):
        number = _number(match, match["hedge"])
        # Most are found as written: the rest is read only for one that is not.
        every = (read(source) for read in (_written_numbers, source_numbers) for source in sources)
        if not any(_same(number, given) for numbers in every for given in numbers):
            return number.text
    return None


def is_date_word(word: str) -> bool:
    """Whether an English or German word names a month or a day, and so is no name."""
    return word.lower() in _DATE_WORDS


@lru_cache(maxsize=1024)
def _written_numbers(text: str) -> tuple[Number, ...]:
    return tuple(map(_number, _NUMBER.finditer(_with_dates_apart(text))))


def _with_dates_apart(text: str) -> str:
    """Text in which a date such as 31.03.2021 is three numbers, not a version."""
    if ".19" not in text and ".20" not in text:  # most texts, and the pattern is slow
        return text
    return _DOTTED_DATE.sub(r"\1 \2 \3", text)


def _continental_number(match: re.Match[str]) -> Number:
    """A number by the other reading of its dots and commas."""
    written = match.group().removesuffix("%").strip()
    value = float(written.replace(".", "").replace(",", "."))
    return Number(written, value, value, percent=match["percent"] is not None)


def _number(match: re.Match[str], hedge: str | None = None) -> Number:
    digits = match["digits"].replace(",", "")
    if digits.count(".") > 1:
        return Number(digits, None)
    scale = _SCALES[(match["word"] or "").lower()] if match["word"] else 1.0
    if suffix := match["scale"]:
        scale = _SCALES[suffix.lower()]
    decimals = len(digits.partition(".")[2])
    step = 10.0**-decimals
    if hedge and not decimals:
        # "about 400" rounds to hundreds; a plain 400 is exact.
        step = 10.0 ** (len(digits) - len(digits.rstrip("0")))
    mantissa = float(digits)
    written = match.string[match.start("digits") : match.end()]
    return Number(written, mantissa * scale, mantissa, scale, step, bool(match["percent"]))


def _same(claimed: Number, given: Number) -> bool:
    """Whether a source's number is the claimed one, or rounds to it."""
    if claimed.value is None or given.value is None:
        return claimed.text == given.text
    half = claimed.step * claimed.scale * 0.5000001
    if abs(claimed.value - given.value) <= half:
        return True
    if (claimed.scale == 1.0) != (given.scale == 1.0):  # a table "in millions"
        return abs(claimed.mantissa - given.mantissa) <= claimed.step * 0.5000001
    return claimed.percent and abs(claimed.value - 100 * given.value) <= half


def _spelled_numbers(text: str) -> Iterator[Number]:
    """Numbers given as words: "twenty-one" is 21, "two million" 2,000,000; also their parts."""
    total = 0.0
    previous_end = -1
    text = text.lower()
    for match in _ALPHABETIC.finditer(text):
        word = match.group()
        adjacent = previous_end >= 0 and not text[previous_end : match.start()].strip(" -")
        if word in _WORDS:
            value = _WORDS[word]
            tens = adjacent and 20 <= total < 100 and total % 10 == 0 and value < 10
            total = total + value if tens else value
            yield Number(word, total, total)
            previous_end = match.end()
        elif word in _SCALES and adjacent:
            total *= _SCALES[word]
            yield Number(word, total, total)
            previous_end = match.end()
        else:
            previous_end = -1
