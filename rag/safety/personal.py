"""Personal data in a text, by form and check digit. Pure functions, standard library only.

A value is taken where its form leaves little doubt: cards have an issuer's prefix and pass Luhn's
check, IBANs have their country's length and pass mod 97, national numbers carry a right check
digit. Version numbers, dates and order numbers are left alone. Names have no form: they are listed
by hand (`privacy.terms`), or found by a model (rag/safety/names.py).
"""

import re
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from ipaddress import IPv6Address

from ingest.credentials import Sensitive, find_credentials, without_overlaps
from ingest.errors import UsageError

Find = Callable[[str], Sequence[Sensitive]]
# How many characters at the beginning of a candidate are the value; 0 for none.
_Check = Callable[[str], int]

# The registry of SWIFT: how long the IBANs of a country are.
_IBAN_LENGTHS = {
    country: int(length)
    for country, length in re.findall(
        r"([A-Z]{2})(\d\d)",
        "AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DK18 DO28 "
        "EE20 EG29 ES24 FI18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HR21 HU28 IE22 IL23 IQ23 IS26 "
        "IT27 JO30 KW30 KZ20 LB28 LC32 LI21 LT20 LU20 LV21 MC27 MD24 ME22 MK19 MR27 MT31 MU30 NL18 "
        "NO15 PK24 PL28 PS29 PT25 QA29 RO24 RS22 SA24 SC31 SE24 SI19 SK24 SM27 TN24 TR26 UA29 VA22 "
        "VG24 XK20",
    )
}
# What a letter, or the digit of its place in the alphabet, is worth at an odd place.
_CODICE_ODD = bytes.fromhex("01000507090d0f111315020412140b0306080c0e100a16191817")


def _card(text: str) -> int:
    """A last group of three may be another number that follows."""
    candidates = (text, text[:-4]) if text[-4] in " -" else (text,)
    return next((len(number) for number in candidates if _is_card(number)), 0)


def _is_card(text: str) -> bool:
    digits = [int(d) for d in text if d.isdigit()]
    doubled = [d if i % 2 == 0 else (2 * d - 9 * (d > 4)) for i, d in enumerate(digits[::-1])]
    return len(digits) > 12 and sum(doubled) % 10 == 0


def _iban(text: str) -> int:
    length = _IBAN_LENGTHS.get(text[:2], 0)
    places = [i for i, character in enumerate(text) if character != " "]
    if not 0 < length <= len(places):
        return 0
    end = places[length - 1] + 1
    compact = text[:end].replace(" ", "")
    number = "".join(str(int(character, 36)) for character in compact[4:] + compact[:4])
    return end if int(number) % 97 == 1 else 0


def _ipv4(text: str) -> int:
    """Four single digits are a version or a section; loopback and masks are nobody's address."""
    octets = [int(part) for part in text.split(".")]
    ordinary = max(octets) > 9 and octets[0] not in (0, 127, 255)
    return len(text) if ordinary and max(octets) < 256 else 0


def _ipv6(text: str) -> int:
    try:
        address = IPv6Address(text)
    except ValueError:
        return 0
    is_word = not any(map(str.isdigit, text))  # `fe::ad` is a name in code
    return 0 if is_word or address.is_loopback or address.is_unspecified else len(text)


def _dni(text: str) -> int:
    number = int(text[:-1].replace("X", "0").replace("Y", "1").replace("Z", "2"))
    return len(text) if "TRWAGMYFPDXBNJZSQVHLCKE"[number % 23] == text[-1] else 0


def _nir(text: str) -> int:
    digits = text.replace(" ", "").replace("2A", "19").replace("2B", "18")
    return len(text) if int(digits[:13]) % 97 == 97 - int(digits[13:]) else 0


def _codice(text: str) -> int:
    places = [int(c) if c.isdigit() else ord(c) - ord("A") for c in text]
    total = sum(_CODICE_ODD[place] for place in places[0:15:2]) + sum(places[1:15:2])
    return len(text) if total % 26 == places[15] else 0


def _hetu(text: str) -> int:
    number = int(text[:6] + text[7:10])
    return len(text) if "0123456789ABCDEFHJKLMNPRSTUVWXY"[number % 31] == text[10] else 0


_NANP = r"(?:\([2-9]\d\d\) ?|[2-9]\d\d[-.])[2-9]\d\d[-.]\d{4}"
_RULES: dict[str, tuple[tuple[str, _Check], ...]] = {
    "email": (
        (
            r"(?<![\w.+-])[\w.+-]{1,64}@(?:[A-Za-z0-9-]{1,63}\.)+"
            r"(?!(?:png|jpe?g|gif|svg|webp|ico|css|js|py)\b)[A-Za-z]{2,24}\b(?!:[\w~/])",
            len,
        ),
    ),
    "phone": (
        (r"(?<![\w+])\+[1-9](?:[ ./-]?\(?\d(?:\)(?=[ \d]))?){7,14}(?!\w)", len),
        (rf"(?<![\w.+-])(?:1[-. ])?{_NANP}(?![\w-])", len),
        (
            r"\b(?i:tel|phone|mobile|cell|fax|telephone|telefon|teléfono|téléphone)\.?:? ?"
            r"(?!\d{4}-\d\d-\d\d)(?P<value>\(?\d(?:[ ./()-]{0,3}\d){5,13})(?!\w)",
            len,
        ),
    ),
    "card": (
        (
            r"(?<![\w.-])(?:(?:4\d|5[0-8]|2[2-7]|35|6\d)\d\d)([ -]?)\d{4}\1\d{4}\1\d{1,4}"
            r"(?:\1\d{3})?(?![\w-])",
            _card,
        ),
        (r"(?<![\w.-])3[47]\d\d([ -]?)\d{6}\1\d{5}(?![\w-])", _card),
        (r"(?<![\w.-])3[068]\d\d([ -]?)\d{6}\1\d{4}(?![\w-])", _card),
    ),
    "iban": ((r"(?<!\w)[A-Z]{2}\d\d(?: ?[A-Z0-9]){11,30}", _iban),),
    "id": (
        (r"(?<![\w-])(?!000|666|9)\d{3}-(?!00)\d\d-(?!0000)\d{4}(?![\w-])", len),  # US SSN
        (r"(?<!\w)[\dXYZ]\d{7}[A-Z](?!\w)", _dni),  # Spain
        (r"(?<!\w)[12] ?\d\d ?(?:0[1-9]|1[0-2]) ?(?:\d\d|2[AB]) ?\d{3} ?\d{3} ?\d\d(?!\w)", _nir),
        (r"(?<!\w)[A-Z]{6}\d\d[A-EHLMPRST]\d\d[A-Z]\d{3}[A-Z](?!\w)", _codice),  # Italy
        (r"(?<!\w)[0-3]\d[01]\d\d\d[-+A-FYXWVU]\d{3}[0-9A-Y](?!\w)", _hetu),  # Finland
    ),
    "ip": (
        (
            r"(?<![\w.:/-])(?<![vV]ersion )(?<![rR]elease )(?:\d{1,3}\.){3}\d{1,3}(?![\w-]|\.\d)",
            _ipv4,
        ),
        (r"(?<![\w:.])[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,7}(?![\w:])", _ipv6),
    ),
}
KINDS = tuple(_RULES)
NAME, TERM = "name", "term"


def finder(
    kinds: Sequence[str],
    terms: Sequence[str] = (),
    *,
    secrets: bool = False,
    names: re.Pattern[str] | None = None,
) -> Find:
    """What finds personal data of these kinds ("all" is every one that has a form), words of a
    list, secrets, and what `names` matches.

    Raises UsageError for an unknown kind.
    """
    wanted = KINDS if "all" in kinds else [kind for kind in kinds if kind != NAME]
    if unknown := [kind for kind in wanted if kind not in KINDS]:
        raise UsageError(
            f"privacy.redact knows no {unknown[0]!r}",
            f'it knows "all", {", ".join((*KINDS, NAME))}',
        )
    listed = "|".join(re.escape(term) for term in sorted(terms, key=len, reverse=True) if term)
    own = re.compile(rf"(?<!\w)(?:{listed})(?!\w)", re.IGNORECASE) if listed else None

    def find(text: str) -> Sequence[Sensitive]:
        found = [one for kind in wanted for one in _found(kind, text)]
        for kind, pattern in ((TERM, own), (NAME, names)):
            found += [Sensitive(kind, *m.span()) for m in pattern.finditer(text)] if pattern else []
        secret = find_credentials(text) if secrets else []
        # A secret comes first: what looks like an address in it is a part of it.
        return without_overlaps([*secret, *(o for o in found if not _touches(o, secret))])

    return find


def _touches(one: Sensitive, others: Sequence[Sensitive]) -> bool:
    return any(one.start < other.end and other.start < one.end for other in others)


@cache
def _compiled(kind: str) -> tuple[tuple[re.Pattern[str], _Check], ...]:
    return tuple((re.compile(pattern), check) for pattern, check in _RULES[kind])


def _found(kind: str, text: str) -> Iterator[Sensitive]:
    for pattern, check in _compiled(kind):
        for match in pattern.finditer(text):
            value = "value" if "value" in pattern.groupindex else 0
            if size := check(match[value]):
                yield Sensitive(kind, match.start(value), match.start(value) + size)
