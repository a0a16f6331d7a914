"""Bytes of unknown encoding to clean text: no control characters, no lone surrogates.

The order of trust: a byte order mark, valid UTF-8, what the file declares, nearly valid UTF-8, and
only then a guess by charset-normalizer, whose guesses on short texts are often wrong.
"""

import codecs
import io
import re
from collections.abc import Iterable

from ingest.errors import LoadError

_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark begins the same
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Python also has "encodings" that are programs (unicode_escape): no file may name those.
_DECLARABLE = re.compile(
    r"utf-?(8|16|32)|(iso|latin|windows|cp|koi8|mac|euc|gb|big5|shift|sjis|ms_?kanji|tis|us-ascii)"
)
# As browsers read them: pages that declare these are nearly always in Windows' superset.
_SUPERSETS = {"iso8859-1": "cp1252", "ascii": "cp1252", "gb2312": "gb18030", "shift_jis": "cp932"}
# Those that people's files are in: left to all it knows, the library takes rarer ones for these.
_GUESSED = ["cp1252", "cp1250", "cp1251", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"]
_GUESSED += ["cp1258", "cp874", "cp866", "koi8_r", "koi8_u", "iso8859_2", "iso8859_5", "iso8859_7"]
_GUESSED += ["mac_roman", "cp932", "euc_jp", "gb18030", "big5", "cp949"]
_CONTROL_BYTES = bytes(set(range(32)) - set(b"\t\n\r\f\v\x08\x1b")) + b"\x7f"
_SAMPLE = 1 << 16
_BINARY_SHARE = 0.02  # of control bytes, in bytes that are not UTF-8: random bytes have 0.1
_BINARY_SHARE_UTF8 = 0.3  # NULs as padding do occur in text; a file of little else is data
_BAD_SHARE = 0.05  # of the characters beyond ASCII: a UTF-8 file with damaged spots

# The characters that cp1252 has for the bytes 0x80 to 0x9f; for five it has none, and they stay.
_CP1252_BYTES = {
    ord(bytes([byte]).decode("cp1252", "ignore") or chr(byte)): byte for byte in range(128, 160)
}
_TWICE_ENCODED = re.compile(f"[\xc2-\xf4][\x80-\xbf{''.join(map(chr, _CP1252_BYTES))}]")

_ESCAPES = re.compile("\x1b\\[[0-?]*[ -/]*[@-~]")  # a terminal's colours, as in logs
_NEWLINE = re.compile("\r\n?|[\f\v\x85\u2028\u2029]")
_DROPPED = re.compile(
    "[\x00-\x08\x0e-\x1f\x7f-\x9f"  # C0, DEL and C1
    "\xad\ufeff\ufff9-\ufffb\ufffe\uffff"  # soft hyphen, byte order mark, annotation, no characters
    "\ud800-\udfff]"  # surrogates
)


def decode(data: bytes, declared: str = "") -> str:
    """The clean text of a file's bytes; `declared` is the encoding that the file itself names.

    Raises LoadError for bytes that are no text or in no encoding that can be told.
    """
    return clean(decode_raw(data, declared))


def decode_raw(data: bytes, declared: str = "") -> str:
    """As `decode`, but not cleaned: for formats in which some control characters have a meaning."""
    for mark, encoding in _BYTE_ORDER_MARKS:
        if data.startswith(mark):
            return data[len(mark) :].decode(encoding, "replace")
    if encoding := _wide_encoding(data[:_SAMPLE]):
        return data.decode(encoding, "replace")
    return _decode_bytes(data, declared)


def decoded_lines(data: bytes) -> Iterable[str]:
    """The lines of a file, not cleaned; of UTF-8 one at a time, since the whole may not fit."""
    try:
        for line in io.BytesIO(data):
            line.decode()
    except UnicodeDecodeError:
        return decode_raw(data).split("\n")
    return map(bytes.decode, io.BytesIO(data.removeprefix(codecs.BOM_UTF8)))


def clean(text: str) -> str:
    """Text with `\\n` as the only line end and no control characters, colours or surrogates.

    Invisible characters that belong to a script's spelling (joiners, direction marks) stay.
    """
    plain = _ESCAPES.sub("", text) if "\x1b" in text else text
    return _DROPPED.sub("", _NEWLINE.sub("\n", plain))


def one_line(text: str) -> str:
    """Clean text with each run of white space made one space."""
    return " ".join(clean(text).split())


def tidy_lines(text: str) -> str:
    """Clean lines, none blank, each with its runs of white space made one space."""
    return "\n".join(filter(None, map(one_line, clean(text).split("\n"))))


def _decode_bytes(data: bytes, declared: str) -> str:
    """Text of bytes without a mark, not cleaned."""
    share = _control_share(data[:_SAMPLE])
    try:
        text = data.decode()
    except UnicodeDecodeError:
        if share > _BINARY_SHARE:
            raise _binary() from None
        return _decode_legacy(data, declared)
    if share > _BINARY_SHARE_UTF8:
        raise _binary()
    if "\x1b$" in text:  # ISO-2022-JP is 7-bit, so it passes as ASCII
        return data.decode("iso2022_jp_2", "replace")
    return _repaired(text)


def _repaired(text: str) -> str:
    """Text that was taken for cp1252 and encoded once more ("cafÃ©"), as it was before that.

    Other text never comes out as valid UTF-8: between its accented letters stand plain ones.
    """
    if not _TWICE_ENCODED.search(text):
        return text
    try:
        return text.translate(_CP1252_BYTES).encode("latin-1").decode()
    except UnicodeError:
        return text


def _decode_legacy(data: bytes, declared: str) -> str:
    """Text of bytes that are not valid UTF-8."""
    encoding = _python_encoding(declared)
    if encoding and encoding != "utf-8":
        return data.decode(encoding, "replace")
    text = data.decode("utf-8", "replace")
    bad = text.count("\ufffd")
    beyond_ascii = len(text) - sum(map(str.isascii, text))
    if bad <= _BAD_SHARE * beyond_ascii or encoding:
        return text
    return data.decode(_guess(data[:_SAMPLE]), "replace")


def _guess(sample: bytes) -> str:
    """The likeliest encoding of a sample, cut at a line end so that no character is torn."""
    from charset_normalizer import from_bytes

    cut = sample.rfind(b"\n") + 1
    sample = sample[:cut] if cut > len(sample) // 2 else sample
    matches = from_bytes(sample, cp_isolation=_GUESSED)
    best = matches.best()
    if best is None:
        raise _binary()
    # Of the Latin code pages that fit equally well, the western one is by far the most used.
    fit = (best.chaos, best.coherence)
    tied = {match.encoding for match in matches if (match.chaos, match.coherence) == fit}
    return "cp1252" if "cp1252" in tied else best.encoding


def _python_encoding(declared: str) -> str:
    """Python's name for a declared encoding, or "" if it is unknown or no plain character set."""
    name = declared.strip().lower()
    if not _DECLARABLE.match(name):
        return ""
    try:
        found = codecs.lookup(name).name
    except LookupError:
        return ""
    return _SUPERSETS.get(found, found)


def _wide_encoding(sample: bytes) -> str:
    """UTF-16 without a mark shows as NULs in every second byte; "" if there is no such pattern."""
    half = len(sample) // 2
    if half == 0:
        return ""
    even, odd = sample[0::2].count(0) / half, sample[1::2].count(0) / half
    if odd > 0.4 and even < 0.05:
        return "utf-16-le"
    if even > 0.4 and odd < 0.05:
        return "utf-16-be"
    return ""


def _control_share(sample: bytes) -> float:
    """The share of bytes that no text has."""
    return 1 - len(sample.translate(None, _CONTROL_BYTES)) / len(sample) if sample else 0.0


def _binary() -> LoadError:
    """The error for bytes that cannot be read as text."""
    return LoadError(
        "looks binary: not text in any encoding that can be told",
        "save it as UTF-8 if it is text, or leave it out with .ragignore",
    )
