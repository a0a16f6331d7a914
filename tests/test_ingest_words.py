"""Words and index terms: what two texts must share to be about the same thing."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.words import STOP_WORDS, terms, words


@given(st.text(max_size=300))
def test_words_keep_their_place(text: str) -> None:
    """Offsets ascend, lie in the text and are not empty, whatever the script."""
    found = words(text)

    assert all(0 <= w.start < w.end <= len(text) for w in found)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))


@given(st.text(max_size=300))
def test_terms_are_deterministic_and_never_empty(text: str) -> None:
    """The index and the question see the same terms, none of which holds a separator."""
    found = terms(text)

    assert found == terms(text)
    assert all(term and not any(c.isspace() for c in term) for term in found)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Running", "runs"),
        ("café", "CAFE"),
        ("1,204.5 litres", "1204.5 litre"),
        ("naïve", "naive"),
        ("the company's policies", "company policy"),
        ("Straße", "STRASSE"),
        ("ﬁle", "file"),
        ("U.S.", "US"),
        ("don't ask", "asking"),
    ],
)
def test_forms_of_one_thing_meet(one: str, other: str) -> None:
    """Case, accents, endings and number formats make no difference."""
    assert terms(one) == terms(other)


@pytest.mark.parametrize(
    ("text", "query"),
    [
        ("Error E-1042 occurred", "E-1042"),
        ("call foo_bar() first", "foo_bar"),
        ("fixed in v2.3.1", "2.3.1"),
        ("Python 3.11 only", "3.11"),
        ("东京是日本的首都", "日本"),
        ("ประเทศไทย", "ไทย"),
        ("über die Brücke", "brucke"),
    ],
)
def test_identifiers_and_other_scripts_are_found(text: str, query: str) -> None:
    """A query's terms are all among those of a text that holds it."""
    assert terms(query)
    assert set(terms(query)) <= set(terms(text))


def test_different_numbers_never_meet() -> None:
    """A version is not another version, a decimal not its whole."""
    assert not set(terms("3.11")) & set(terms("3.1"))
    assert not set(terms("12.5")) & set(terms("125"))


def test_stop_words_are_dropped() -> None:
    """A question keeps its content words alone."""
    assert terms("What is the capital of France?") == ["capit", "franc"]
    assert not any(terms(word) for word in STOP_WORDS)


@pytest.mark.parametrize(
    ("text", "language", "expected"),
    [
        ("die Rechnungen in Häusern", "de", ["die", "rechnung", "haus"]),
        ("les informations nationales", "fr", ["le", "inform", "national"]),
        ("книгами городах", "ru", ["книг", "город"]),
        ("المكتبات", "ar", ["مكتب"]),
        ("версии versions", "ru", ["верс", "version"]),
        ("Rechnungen", "xx", ["rechnungen"]),
    ],
)
def test_endings_are_those_of_the_language(text: str, language: str, expected: list[str]) -> None:
    """German endings fall in German texts; a language without a stemmer is taken for English."""
    assert terms(text, language) == expected


@given(st.text(max_size=60))
def test_every_language_has_as_many_terms(text: str) -> None:
    """So that the terms of one text in two languages can be laid side by side."""
    assert {len(terms(text))} == {len(terms(text, code)) for code in ("de", "ar", "ru", "fr")}
