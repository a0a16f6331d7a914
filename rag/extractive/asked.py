"""What a question asks for: its terms with their weights, and the kind of answer it wants.

The kinds are told by question words, English and German. They are hints: a sentence is not left
out for lacking what its question seems to want, it only scores less.
"""

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ingest.words import terms, words
from rag.grounding.numbers import is_date_word
from rag.grounding.verify import Idf

_COUNT = (
    r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|fifteen|twenty|thirty|forty"
    r"|fifty|sixty|ninety|hundred|thousand|million|billion|dozen|half|zwei|drei|vier|fünf|sechs"
    r"|sieben|acht|neun|zehn|elf|zwölf|zwanzig|dreißig)"
)
_NUMBER = rf"\d[\d.,]*|\b{_COUNT}\b"
_MONTHS = (
    r"(?:jan(?:uary|uar)?|feb(?:ruary|ruar)?|mar(?:ch)?|märz|apr(?:il)?|may|mai|june?|juni|july?|juli"
    r"|aug(?:ust)?|sep(?:tember)?|o[ck]t(?:ober)?|nov(?:ember)?|de[cz](?:ember)?)"
)
_DAYS = (
    r"(?:mon|tues|wednes|thurs|fri|satur|sun)days?"
    r"|(?:mon|diens|donners|frei|sams|sonn)tags?|mittwochs?"
)
_UNITS = (
    r"(?:sec(?:ond)?s?|min(?:ute)?s?|h(?:ours?|rs?)?|days?|nights?|weeks?|weekends?|months?|years?"
    r"|decades?|centur(?:y|ies)|Sekunden?|Minuten?|Stunden?|Tagen?|Wochen?|Monaten?|Jahren?)"
)
_QUANTITIES = (
    r"age|amount|angle|area|budget|capacity|charge|cost|credit|current|deposit|depth|diameter"
    r"|discount|distance|dose|fee|fine|height|humidity|income|length|limit|load|loss|maximum|minimum"
    r"|number|pay|percentage|population|power|pressure|price|profit|range|rate|rent|salary|score"
    r"|share|size|speed|sum|temperature|torque|turnover|value|voltage|volume|wage|weight|width"
)
_GERMAN_QUANTITIES = (
    r"Abstand|Anteil|Betrag|Dauer|Druck|Frist|Gebühr|Gehalt|Größe|Höhe|Kosten|Länge|Menge|Miete"
    r"|Mindestlänge|Preis|Temperatur|Feuchte|Umsatz|Zahl"
)


_MONEY = (
    r"allowance|budget|costs?|fees?|fines?|price|rent|revenue|salary|turnover|wage|kosten|umsatz"
    r"|\w*(?:gebühr|gehalt|miete|preis)"
)
_CURRENCY = (
    r"(?:[€£$¥%]|(?:euros?|pounds?|dollars?|pence|cents?|francs?|marks?|yen|rupees?|percent"
    r"|EUR|GBP|USD|CHF)\b)"
)
_WORDS_BETWEEN = r"(?: [\w'-]+){0,6}?"


def _compiled(asks: str, holds: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return re.compile(rf"\b(?:{asks})", re.IGNORECASE), re.compile(holds, re.IGNORECASE)


def _measured(asks: str, units: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    return _compiled(asks, rf"(?:{_NUMBER})[\s-]*(?:\w+illions? )?(?:{units})(?![^\W\d_])")


# Questions for an amount of something with a unit of its own: a bare number is no answer.
_MEASURES = (
    _compiled(
        r"how much\b.*\b(?:charge[ds]?|costs?|earn(?:ed)?|paid|pay|spen[dt]|worth)\b"
        r"|what (?:does|do|did|will|would)\b.*\bcost\b|was kostet"
        r"|(?:how (?:high|large|much)|wie hoch|what (?:is|was|are|were))"
        rf"{_WORDS_BETWEEN} (?:{_MONEY})\b|(?:what|which) (?:{_MONEY})\b",
        rf"[€£$¥]\s?\d|(?:{_NUMBER})\s?(?:(?:thousand|[mb]illion|Mio\.?|bn|m)\s)?{_CURRENCY}"
        r"|(?:EUR|GBP|USD|CHF|costs?|fee|price|[€£$])\)?\W{1,4}\d|\d[.,]\d{3}\b|\d\.\d\d\b"
        r"|\bfree\b|\bwithout\b|\bkostenlos",
    ),
    _measured(r"(?:what|which|how much)\b.*\btorque\b", r"N\s?m"),
    _measured(
        r"(?:how many|.*\bin) watts?\b|.*\bpower consumption", r"[km]?W|(?:kilo|mega)?watts?"
    ),
    _measured(
        r"how heavy|wie schwer|(?:what|how much) (?:does|do|did)\b.*\bweigh\b",
        r"kg|(?:kilo)?grams?|kilos?|g|lbs?|pounds?|stone|t|tons?|tonnes?|oz|ounces?",
    ),
    _measured(
        rf"how many square|(?:what|how large) (?:is|was){_WORDS_BETWEEN} (?:floor|surface) area\b",
        r"[ck]?m²|m2|ha|sq|square|acres?|hectares?",
    ),
    _measured(
        r"how (?:far|tall|wide|deep)\b|(?:what|which)\b.*\bdiameter|wie (?:weit|breit|tief)\b",
        r"[cmk]?m|\w*met(?:er|re)s?|miles?|ft|foot|feet|inch(?:es)?|in|yards?",
    ),
    _measured(
        r"(?:what|which)(?: (?!a\b)[\w'-]+){0,3} temperature\b", r"°\s?[CF]?|degrees?|Grad|[KCF]"
    ),
    _measured(r"what (?:percentage|percent|share)\b", r"%|percent\w*|per cent|Prozent"),
)

# What a question says, and what its answer then holds; the first that fits counts.
_KINDS: tuple[tuple[re.Pattern[str], re.Pattern[str]], ...] = (
    _compiled(
        r"how (?:long|soon|quickly|old)\b"
        r"|how many (?:seconds|minutes|hours|days|weeks|months|years)"
        r"|wie (?:lange|schnell|alt)\b|wie viele (?:Sekunden|Minuten|Stunden|Tage|Wochen|Monate)",
        rf"(?:\d[\d.,]*|\b(?:an?|einer?|{_COUNT}))[\s-]*{_UNITS}\b|\b\d\d?:\d\d\b",
    ),
    _compiled(
        r"when|until when|by when|at what time|(?:since |in |on )?(?:what|which) "
        r"(?:year|dates?|days?|months?|decade|century|time)\b|(?:bis |ab |seit )?wann"
        r"|um wie ?viel uhr"
        r"|(?:in |an )?welche[mnrs]? (?:jahr|tage?n?|monat)",
        rf"\b(?:1\d|20)\d\ds?\b|\bcentur|\b\d\d?[:.]\d\d\b|\b{_MONTHS}\b|\b(?:{_DAYS})\b"
        r"|\b\d\d?(?:st|nd|rd|th)\b|\b\d\d?\.\d\d?\.|\bnoon\b|\bmidnight\b",
    ),
    *_MEASURES,
    _compiled(
        rf"how (?:many|much|high|large|big|fast|often|loud)\b"
        rf"|what (?:(?:is|was|are|were) )?(?:an? |the )?(?:[\w-]+ ){{0,3}}(?:{_QUANTITIES})\b"
        r"|what (?:does|do|did) .* (?:cost|weigh|pay|measure)\b"
        r"|wie ?(?:viele?|hoch|oft|groß|schwer|weit|teuer|breit|tief)\b|was kostet"
        rf"|welche[rns]? \w*(?:{_GERMAN_QUANTITIES})",
        rf"{_NUMBER}|\b(?:once|twice|every|daily|weekly|monthly|yearly|einmal|zweimal|täglich)\b",
    ),
)
_ASKS_NAME = re.compile(r"\b(?:who|whom|whose|where|wer|wem|wen|wessen|wo|wohin)\b", re.IGNORECASE)
# What an answer gives instead of repeating it.
MEASURED = re.compile(
    r"\bhow (?:many|much|long|soon|quickly|old|far|tall|high|large|big|deep|fast|often|heavy|wide"
    r"|loud)\b|\bwie ?(?:viele?|lange|schnell|alt|hoch|oft|groß|schwer|weit|teuer|breit|tief)\b"
    r"|\bstand for\b|\bmean\W*$"
    r"|^\W*(?:please\s+)?(?:compare|describe|explain|list|name|summari[sz]e"
    r"|(?:give|show|tell)\s+(?:me|us))\b",
    re.IGNORECASE,
)
# KL-40, a year, 2.3.1: what is another thing with another number.
_CODE = re.compile(
    r"(?<![\w.-])(?:[a-z]+-?\d[\w-]*|(?:1[5-9]|20)\d\d|\d+(?:\.\d+){2,})(?![\w-])", re.IGNORECASE
)
_DIGITS = re.compile(r"\d+")
_WORD = re.compile(r"[^\W\d_][\w'\u2019-]*")
# German writes every noun with a capital, a title every word: then capitals mark no name.
_GERMAN = re.compile(
    r"\b(?:der|das|dem|den|ist|sind|wie|wer|wann|welche[mnrs]?|eine?[mnrs]?|für|und|im|zum|beim)\b",
    re.IGNORECASE,
)
_MOST_CAPITALS = 0.6


@dataclass(frozen=True, slots=True)
class Asked:
    """A question made ready: `weights` are its terms' weights.

    `specifics` are those of its names, codes and numbers: what an answer must be about. `wants` is
    what an answer holds, where the question word tells; `measured` says that it is an amount with
    a unit of its own.
    """

    text: str
    weights: Mapping[str, float]
    specifics: Mapping[str, float]
    wants: re.Pattern[str] | None
    wants_name: bool
    measured: bool

    def coverage(self, found: frozenset[str]) -> float:
        """The weighted share of the question's terms that are among these, 0 to 1."""
        return _share(found, self.weights) if self.weights else 0.0

    def specific_coverage(self, found: frozenset[str]) -> float:
        """The same for its names, codes and numbers alone; 1 where it has none."""
        return _share(found, self.specifics) if self.specifics else 1.0

    def type_match(self, text: str) -> float:
        """1 if a text has what the question word asks for, 0 if not, .5 if that is unknown.

        What the question says itself is no answer to it.
        """
        if self.wants:
            known = self.text.casefold()
            held = (match.group().casefold() for match in self.wants.finditer(text))
            return float(any(value not in known for value in held))
        return float(self._has_new_name(text)) if self.wants_name else 0.5

    def has_rival(self, text: str, above: str) -> bool:
        """Whether a text speaks of another code, year or version in the place of the question's.

        `above` is what stands over the text, and may name the question's own.
        """
        wanted = codes(self.text) - codes(f"{above} {text}")
        others = set(map(shape, codes(text)))
        return any(shape(code) in others for code in wanted)

    def _has_new_name(self, text: str) -> bool:
        """Whether a word with a capital stands inside the text that the question does not have."""
        return any(
            word[0].isupper() and not self.weights.keys() & set(terms(word)) and terms(word)
            for word in _WORD.findall(text)[1:]
        )


def analyse(text: str, idf: Idf) -> Asked:
    """Analyse a question; `idf` weighs a term in the collection."""
    weights = {term: idf(term) for term in dict.fromkeys(terms(MEASURED.sub(" ", text)))}
    specific = {term for word in _specific_words(text) for term in terms(word)}
    wants = next((holds for asks, holds in _KINDS if asks.search(text)), None)
    return Asked(
        text=text,
        weights=weights,
        specifics={term: weight for term, weight in weights.items() if term in specific},
        wants=wants,
        wants_name=_ASKS_NAME.search(text) is not None,
        measured=any(wants is units for _, units in _MEASURES),
    )


def codes(text: str) -> set[str]:
    """The codes, years and versions of a text, in lower case: KL-40, 2021, 2.3.1."""
    return {code.lower() for code in _CODE.findall(text)}


def shape(code: str) -> str:
    """What a code shares with others of its kind: KL-40 and KL-60 are of one shape."""
    return _DIGITS.sub("0", code)


def _share(found: frozenset[str], weights: Mapping[str, float]) -> float:
    held = math.fsum(weight for term, weight in weights.items() if term in found)
    return held / (math.fsum(weights.values()) or 1.0)


def _specific_words(text: str) -> Iterator[str]:
    """Words with a digit, and words with a capital that do not begin a sentence."""
    spans = [(word.start, word.end) for word in words(text)]
    capitals = [text[start].isupper() for start, _ in spans]
    names = not _GERMAN.search(text) and sum(capitals) <= _MOST_CAPITALS * len(spans) + 1
    for number, ((start, end), capital) in enumerate(zip(spans, capitals)):
        word = text[start:end]
        named = names and number > 0 and capital and not is_date_word(word)
        if named or any(map(str.isdigit, word)):
            yield word
