"""A question as it is searched: its words as the store's languages have them, its phrases, and
what is put right of its spelling."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate

from ingest.store import Store
from ingest.wordpieces import WordPieces
from ingest.words import stemming, terms, words
from rag.grounding.verify import inverse_frequency

_MOST_LANGUAGES = 4
_MOST_ENTRIES = 40_000  # of the lexical index that one search reads: about 25 ms
_QUOTED = re.compile('["\u201c\u201e\u00ab]([^"\u201c\u201d\u00bb]+)["\u201c\u201d\u00bb]')


@dataclass(frozen=True, slots=True)
class QueryWord:
    """A word: the index terms it may stand in the store as, and how rare they are (its idf).

    There is one term for each language of the store whose endings make a difference.
    """

    terms: tuple[str, ...]
    weight: float


@dataclass(frozen=True, slots=True)
class Query:
    """What the lexical search looks for.

    `frequencies` says in how many chunks each term of the words stands. `phrases` are terms that
    stand next to each other, joined by spaces. `corrected` maps words that no chunk holds to the
    terms that they were taken for.
    """

    words: tuple[QueryWord, ...]
    frequencies: Mapping[str, int]
    phrases: tuple[str, ...] = ()
    corrected: Mapping[str, str] = field(default_factory=dict)

    @property
    def terms(self) -> tuple[str, ...]:
        """All index terms, each once."""
        return tuple(dict.fromkeys(term for word in self.words for term in word.terms))

    @property
    def searched(self) -> tuple[str, ...]:
        """What the index is asked for: the phrases, and the rarest terms that it can rank soon.

        A term that stands in very many chunks costs most of a search and tells least.
        """
        return (*self.phrases, *affordable(self.frequencies))

    @property
    def weight(self) -> float:
        """The weights of all words together."""
        return sum(word.weight for word in self.words)


def analyse(question: str, store: Store) -> Query:
    """The query of a question to this store; call it inside the snapshot that is searched."""
    languages = store_languages(store)
    found = dict.fromkeys(_variants(question, languages))
    frequencies = store.document_frequencies(term for _, variants in found for term in variants)
    corrected = {}
    for surface, variants in found:
        unknown = not any(frequencies[term] for term in variants) and not _is_known(surface)
        if unknown and (nearest := store.nearest_term(variants[0])):
            corrected[surface] = nearest
    frequencies |= store.document_frequencies(corrected.values())
    idf = inverse_frequency(frequencies, store.chunk_count)
    query_words = {}
    for surface, variants in found:
        forms = (corrected[surface],) if surface in corrected else variants
        # A word is as frequent as its most frequent form: it costs that form most of its weight.
        query_words[forms] = QueryWord(forms, min(map(idf, forms)))
    held = {term: frequencies[term] for word in query_words.values() for term in word.terms}
    phrases = tuple(dict.fromkeys(_phrases(question, languages)))
    return Query(tuple(query_words.values()), held, phrases, corrected)


def corrected(question: str, query: Query) -> str:
    """The question with what its misspelt words were taken for in their place."""
    text, end = "", 0
    for word in words(question):
        text += question[end : word.start]
        text += query.corrected.get(word.text, question[word.start : word.end])
        end = word.end
    return text + question[end:]


def affordable(frequencies: Mapping[str, int]) -> tuple[str, ...]:
    """The rarest of these terms that stand in few enough chunks together; one at least."""
    ascending = sorted(frequencies, key=lambda term: frequencies[term])
    sums = accumulate(frequencies[term] for term in ascending)
    return tuple(
        term
        for place, (term, total) in enumerate(zip(ascending, sums, strict=True))
        if total <= _MOST_ENTRIES or place == 0
    )


def store_languages(store: Store) -> tuple[str, ...]:
    """The languages by whose endings a question to this store is stemmed; one at least."""
    languages = dict.fromkeys(map(stemming, store.languages()))
    return tuple(languages)[:_MOST_LANGUAGES] or (stemming(""),)


def _variants(question: str, languages: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each word as it is written, and its terms in the languages."""
    for word in words(question):
        written = question[word.start : word.end]
        for variants in zip(*(terms(written, language) for language in languages), strict=True):
            yield word.text, tuple(dict.fromkeys(variants))


def _phrases(question: str, languages: tuple[str, ...]) -> Iterator[str]:
    """What stands in quotation marks, as neighbouring terms."""
    for match in _QUOTED.finditer(question):
        for language in languages:
            phrase = terms(match[1], language)
            if len(phrase) > 1:
                yield " ".join(phrase)


def _is_known(word: str) -> bool:
    """Whether a word is one of the language and not a misspelling: the embedding model has it."""
    return _wordpieces().has_word(word)


@cache
def _wordpieces() -> WordPieces:
    return WordPieces()
