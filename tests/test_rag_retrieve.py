"""Retrieval over a real store: languages, spelling, phrases, copies, neighbours, second looks."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from ingest.config import DEFAULT_MODEL
from ingest.embed import Embedder, open_embedder
from ingest.errors import UsageError
from ingest.filters import parse_filters
from ingest.spelling import edits, nearest
from ingest.store import Store
from ingest.sync import SyncSettings, sync
from ingest.types import StoredChunk
from rag.retrieval.fuse import Candidate
from rag.retrieval.hop import placed
from rag.retrieval.merge import Found, join
from rag.retrieval.query import analyse
from rag.retrieval.rerank import open_reranker
from rag.retrieval.retrieve import Retrieval, retrieve
from rag.settings.config import RetrievalSection, Settings

FILLER = " ".join(
    f"The workshop keeps item {n} of the catalogue on shelf {n} behind the green door."
    for n in range(1, 40)
)
DOCUMENTS = {
    "pumps.md": "# Pumps\n\nThe warranty of the centrifugal pump ends after three years. "
    "Error E-1042 means that the rotor is blocked; call `reset_rotor()` in version 2.3.1.",
    "policy-2023.md": "---\ndate: 2023-01-10\n---\n# Travel\n\nWhoever travels for the company "
    "books the cheapest train and keeps every receipt for the accountant in the travel office.",
    "policy-2025.md": "---\ndate: 2025-02-01\n---\n# Travel\n\nWhoever travels for the company "
    "books the cheapest train and keeps every receipt for the accountant in the travel office.",
    "rechnung.md": "# Rechnungen\n\nDie Rechnungen der Lieferanten werden in der Buchhaltung "
    "geprüft und nach vierzehn Tagen überwiesen, wenn niemand widerspricht.",
    "manual.md": f"# Manual\n\n{FILLER}",
    "acme.md": "# Acme Works\n\nAcme Works was founded by Mira Lindqvist in 1962 and makes "
    "measuring instruments for rivers.",
    "lindqvist.md": "# Mira Lindqvist\n\nShe was born in Tavastland, studied hydrology and later "
    "taught at several schools.",
    "rivers.md": "# Rivers\n\nRivers are measured by their level, their flow and their colour.",
}


@pytest.fixture(scope="module")
def embedder() -> Embedder:
    return open_embedder("all-MiniLM-L6-v2", "numpy")


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory, embedder: Embedder) -> Iterator[Store]:
    folder = tmp_path_factory.mktemp("retrieve")
    write(folder / "docs", DOCUMENTS)
    sync(folder / ".rag", [folder / "docs"], SyncSettings(), embedder=embedder)
    with Store.open(folder / ".rag") as opened:
        yield opened


def write(folder: Path, documents: Mapping[str, str]) -> None:
    folder.mkdir()
    for name, text in documents.items():
        (folder / name).write_text(text, encoding="utf-8")


def search(store: Store, embedder: Embedder, question: str, k: int = 3) -> Retrieval:
    return retrieve(question, store, embedder, RetrievalSection(k=k))


@pytest.mark.parametrize(
    ("question", "source"),
    [
        ("How long is the warranty of the pump?", "pumps.md"),
        ("E-1042", "pumps.md"),
        ("reset_rotor()", "pumps.md"),
        ("what changed in v2.3.1", "pumps.md"),
        ("Wann wird eine Rechnung überwiesen?", "rechnung.md"),
        ("item 17 on shelf 17", "manual.md"),
    ],
)
def test_the_passage_that_answers_comes_first(
    store: Store, embedder: Embedder, question: str, source: str
) -> None:
    """By meaning, by code, by identifier, by version, and by a word with a German ending."""
    assert source == search(store, embedder, question).passages[0].chunk.source


def test_words_are_stemmed_as_the_documents_are(store: Store) -> None:
    """A store of English and German is asked with both stems; a word counts once."""
    query = analyse("Rechnungen pumps", store)

    assert [w.terms for w in query.words] == [("rechnungen", "rechnung"), ("pump", "pumps")]
    assert query.weight == pytest.approx(sum(word.weight for word in query.words))


def test_a_word_that_no_document_has_is_taken_for_its_neighbour(
    store: Store, embedder: Embedder
) -> None:
    """A misspelt word finds what it means, and the correction is told."""
    found = search(store, embedder, "When does the waranty end?")

    assert found.query.corrected == {"waranty": "warranti"}
    assert found.passages[0].chunk.source == "pumps.md"


@pytest.mark.parametrize("question", ["Does the plan cover dental work?", "E-1043", "cat", "2.3.2"])
def test_words_that_are_right_are_not_corrected(store: Store, question: str) -> None:
    """What is a word already, a code, short, or a number stays as it is: it is not there."""
    assert analyse(question, store).corrected == {}


@given(st.text("abcdefghij", min_size=5, max_size=12), st.data())
def test_one_edit_is_mended(term: str, data: st.DataObject) -> None:
    """Whatever letter is lost or doubled, the term itself is the nearest one."""
    at = data.draw(st.integers(0, len(term) - 1))
    wrong = data.draw(st.sampled_from([term[:at] + term[at + 1 :], term[: at + 1] + term[at:]]))

    expected = term if edits(wrong) else ""
    assert expected == nearest(wrong, {term: 3, "zzzzzzzz": 9})


def test_a_quoted_phrase_is_looked_for_as_one(store: Store) -> None:
    """Its terms have to stand next to each other."""
    assert analyse('where is the "green door"?', store).phrases == ("green door",)
    assert analyse('where is the "door"?', store).phrases == ()


def test_copies_are_collapsed_and_named(store: Store, embedder: Embedder) -> None:
    """Of two editions that say the same the newer one is shown, and the other is named."""
    found = search(store, embedder, "Which train does one book for company travel?")

    assert found.passages[0].chunk.source == "policy-2025.md"
    assert "policy-2023.md" not in {p.chunk.source for p in found.passages}
    assert [(d.source, d.of) for d in found.duplicates] == [("policy-2023.md", "policy-2025.md")]


def test_editions_that_differ_in_a_figure_are_both_shown(
    tmp_path: Path, embedder: Embedder
) -> None:
    """Otherwise nobody would see that they disagree."""
    rule = "Employees in the head office and in all branches receive {} days of paid leave a year."
    editions = {f"{n}.md": f"# Leave\n\n{rule.format(n)}" for n in (25, 28)}
    write(tmp_path / "docs", editions)
    sync(tmp_path / ".rag", [tmp_path / "docs"], SyncSettings(), embedder=embedder)

    with Store.open(tmp_path / ".rag") as store:
        found = search(store, embedder, "How many days of paid leave?")

    assert {"25.md", "28.md"} == {passage.chunk.source for passage in found.passages}


def test_neighbours_are_joined_into_one_exact_slice(store: Store, embedder: Embedder) -> None:
    """Chunks that follow one another are one passage, whose text is the document's own."""
    found = search(store, embedder, "What does the workshop keep behind the green door?", k=2)
    chunk = next(p.chunk for p in found.passages if p.chunk.source == "manual.md")
    document = store.document("manual.md")

    assert document.document.text[chunk.start : chunk.end] == chunk.text
    assert len(chunk.text) > max(len(each.text) for each in document.chunks)


def test_a_second_search_finds_what_the_first_passage_names(
    store: Store, embedder: Embedder
) -> None:
    """The founder stands in one document, the place of birth in another, which says neither
    founder nor Acme."""
    found = search(store, embedder, "In which region was the founder of Acme Works born?", k=4)

    assert found.passages[0].chunk.source == "acme.md"
    assert "lindqvist.md" in {passage.chunk.source for passage in found.passages}


def test_filters_hold_in_the_second_search_too(store: Store, embedder: Embedder) -> None:
    """Nothing comes from a document that was left out."""
    found = retrieve(
        "In which region was the founder of Acme Works born?",
        store,
        embedder,
        RetrievalSection(),
        parse_filters(["source=acme.md"]),
    )

    assert {"acme.md"} == {passage.chunk.source for passage in found.passages}


def test_a_leg_alone_is_searched_once(store: Store, embedder: Embedder) -> None:
    """alpha 1 and alpha 0 give the plain rankings."""
    question = "In which region was the founder of Acme Works born?"
    for alpha, rank in ((1.0, "dense_rank"), (0.0, "lexical_rank")):
        found = retrieve(question, store, embedder, RetrievalSection(alpha=alpha))

        ranks = [getattr(passage, rank) for passage in found.passages]
        assert sorted(ranks) == ranks


candidates = st.lists(st.integers(1, 30), unique=True, max_size=20)


def candidate(chunk_id: int) -> Candidate:
    return Candidate(chunk_id, 0.5, 0.5, 1.0, None, None)


@given(candidates, candidates)
def test_a_second_search_loses_nothing(first: list[int], second: list[int]) -> None:
    """The best stay in front, everything ranked before is still there, each once."""
    merged = [c.chunk_id for c in placed([*map(candidate, first)], [*map(candidate, second)])]

    assert first[:3] == merged[: len(first[:3])]
    assert set(first) <= set(merged)
    assert len(set(merged)) == len(merged)


def test_only_neighbours_of_one_section_are_joined() -> None:
    """Three chunks at most make a passage; another section or document begins a new one."""
    places = [(1, 4, "a"), (1, 3, "a"), (2, 5, "a"), (1, 5, "a"), (1, 6, "a"), (1, 2, "b")]
    found = [
        Found(
            candidate(n),
            (
                StoredChunk(
                    n, "d", "", 0, 1, "x", None, section, n, document_id=document, ordinal=ordinal
                ),
            ),
        )
        for n, (document, ordinal, section) in enumerate(places)
    ]

    joined = [[chunk.ordinal for chunk in passage.chunks] for passage in join(found, 9)]

    assert joined == [[3, 4, 5], [5], [6], [2]]


def test_a_reranker_orders_the_passages_anew(store: Store, embedder: Embedder) -> None:
    """It sees three times as many as are asked for, with what stands above them."""
    seen: list[str] = []

    def longest_last(question: str, texts: Sequence[str]) -> list[float]:
        seen.extend(texts)
        return [-len(text) for text in texts]

    found = retrieve("pump", store, embedder, RetrievalSection(k=2), rerank=longest_last)

    shown = [f"{p.chunk.context}\n{p.chunk.text}" for p in found.passages]
    assert shown == sorted(seen, key=len)[:2]
    assert len(seen) > 2


def test_a_reranker_that_only_a_project_names_is_refused() -> None:
    """It would be loaded, or fetched."""
    settings = Settings(
        retrieval=RetrievalSection(reranker="a/stranger"),
        origins={"retrieval.reranker": "rag.toml"},
    )

    with pytest.raises(UsageError, match="without your word") as raised:
        open_reranker(settings)
    assert "RAG_RETRIEVAL_RERANKER=a/stranger" in raised.value.hint
    assert open_reranker(Settings()) is None


def test_questions_in_other_scripts_are_led_by_words(store: Store) -> None:
    """The default model knows hardly a word of them: the cosine counts a tenth of what it does."""
    vector = np.zeros(384, np.float32)
    vector[0] = 1.0

    class Fixed:
        name, dimension, truncated = DEFAULT_MODEL, 384, 0

        def prepare(self) -> None:
            raise AssertionError

        def embed_query(self, text: str) -> NDArray[np.float32]:
            return vector

        def embed_documents(
            self, texts: Sequence[str], on_progress: Callable[[int], None] = lambda done: None
        ) -> NDArray[np.float32]:
            raise AssertionError

    def first_by_meaning(question: str) -> Candidate:
        found = retrieve(question, store, Fixed(), RetrievalSection(second_search=False))
        return next(c for c in found.candidates if c.dense_rank == 1)

    latin, arabic = first_by_meaning("qqqq"), first_by_meaning("ججج")
    assert arabic.score == pytest.approx(0.1 * latin.score)
