"""The store keeps what it was given, finds it again, and says what is wrong with it."""

import hashlib
import os
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

import ingest
from eval.benchmarks.durability.runs import index_count
from ingest.chroma import ChromaIndex
from ingest.config import IndexSettings
from ingest.errors import (
    StoreDamaged,
    StoreError,
    StoreMismatch,
    StoreMissing,
    UsageError,
)
from ingest.filters import parse_filters
from ingest.rebuild import rebuild
from ingest.records import DocumentCommit, FileCommit, FileRecord, Problem, vector_key
from ingest.schema import DATABASE, FORMAT, read_meta, write_meta
from ingest.store import Store
from ingest.types import Block, Chunk, Document, Hit, embedded_text
from ingest.vectors import ExactIndex
from ingest.words import terms
from ingest.writer import Writer

DIMENSION = 8
SETTINGS = IndexSettings("test-model", DIMENSION, 220)
QUERY = np.eye(DIMENSION, dtype=np.float32)[0]


def unit(key: bytes) -> np.ndarray:
    """A unit vector that depends on the key alone."""
    row = np.random.default_rng(int.from_bytes(key, "big")).standard_normal(DIMENSION)
    return (row / np.linalg.norm(row)).astype(np.float32)


def make_file(
    source: str,
    paragraphs: Sequence[str],
    path: str | None = None,
    metadata: Mapping[str, str] | None = None,
) -> FileCommit:
    """A file of one document whose paragraphs are its chunks."""
    return make_file_of(path or f"/root/{source}", {source: paragraphs}, metadata or {})


def make_file_of(
    path: str, documents: Mapping[str, Sequence[str]], metadata: Mapping[str, str]
) -> FileCommit:
    """A file with a document for each source."""
    commits = tuple(make_document(source, p, metadata) for source, p in documents.items())
    digest = hashlib.sha256("".join(c.document.text for c in commits).encode()).hexdigest()
    return FileCommit(FileRecord(path, "/root", 1, 2, digest, "text-1"), commits)


def make_document(
    source: str, paragraphs: Sequence[str], metadata: Mapping[str, str]
) -> DocumentCommit:
    text = "\n\n".join(paragraphs)
    chunks, start = [], 0
    for ordinal, paragraph in enumerate(paragraphs):
        end = start + len(paragraph)
        chunks.append(Chunk(ordinal, start, end, paragraph, 1, "Part", len(paragraph) // 4))
        start += len(paragraph) + 2
    blocks = tuple(Block(c.start, c.end, "prose") for c in chunks)
    title = Path(source).stem
    document = Document(source, title, "text/plain", text, blocks, (0,), ("i",), dict(metadata))
    keys = tuple(vector_key("test-model", embedded_text(document, c)) for c in chunks)
    return DocumentCommit(document, tuple(chunks), keys)


def put(writer: Writer, *files: FileCommit, removed: Sequence[str] = ()) -> None:
    """Commit files in one batch with the vectors they still need."""
    keys = {key for file in files for document in file.documents for key in document.keys}
    missing = writer.missing_vectors(keys)
    writer.commit(files, {key: unit(key) for key in missing}, removed)


def texts(store: Store) -> dict[str, str]:
    """Every source's text."""
    return {info.source: store.document(info.source).document.text for info in store.sources()}


def found(store: Store, hits: Sequence[Hit]) -> list[str]:
    """The sources of hits, in their order."""
    chunks = store.chunks([hit.chunk_id for hit in hits])
    return [chunks[hit.chunk_id].source for hit in hits]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / ".rag"


@pytest.fixture
def filled(folder: Path) -> Path:
    """A store of three documents in two folders."""
    with Store.write(folder, SETTINGS) as writer:
        put(
            writer,
            make_file("guide/pump.md", ["The pump moves water.", "The valve is blocked."]),
            make_file(
                "guide/leave.md",
                ["Paid leave is 28 days."],
                metadata={"author": "Ann", "date": "2024-06-30", "tags": "HR, people"},
            ),
            make_file(
                "notes.txt",
                ["The fire drill is in May.", "The pump is tested too."],
                metadata={"date": "2023-11-02", "size": "10"},
            ),
        )
    return folder


# What goes in comes out


def test_a_document_comes_back_as_it_was_given(filled: Path) -> None:
    """Text, blocks, pages, metadata and chunk spans survive."""
    given_document = make_file("guide/pump.md", ["The pump moves water.", "The valve is blocked."])

    with Store.open(filled) as store:
        stored = store.document("guide/pump.md")

    expected = given_document.documents[0]
    assert expected.document == stored.document
    assert expected.chunks == stored.chunks


def test_a_document_is_found_by_id_too(filled: Path) -> None:
    """A listing's id leads to the same document as its source."""
    with Store.open(filled) as store:
        for info in store.sources():
            assert store.document(info.source) == store.document_by_id(info.id)
        with pytest.raises(UsageError, match="no document with id 99"):
            store.document_by_id(99)


def test_status_counts_what_is_stored(filled: Path) -> None:
    """Documents, chunks, model, roots and generation."""
    with Store.open(filled) as store:
        status = store.status()

    assert (status.documents, status.chunks, status.format, status.generation) == (3, 5, FORMAT, 1)
    assert (status.embedding_model, status.roots) == ("test-model", ("/root",))
    assert status.bytes > 0


def test_an_unknown_source_is_answered_with_near_ones(filled: Path) -> None:
    """A slip of the finger gets a suggestion."""
    with Store.open(filled) as store, pytest.raises(UsageError) as raised:
        store.document("guide/pmup.md")

    assert "'guide/pump.md'" in raised.value.hint


def test_equal_text_is_embedded_once(folder: Path) -> None:
    """A vector is kept by its text and model, across files and versions."""
    first, second = make_file("a/x.md", ["Same words."]), make_file("b/x.md", ["Same words."])
    with Store.write(folder, SETTINGS) as writer:
        keys = first.documents[0].keys
        missing_before = writer.missing_vectors(keys)
        put(writer, first)
        missing_after = writer.missing_vectors(second.documents[0].keys)
        put(writer, second)
    with Store.open(folder) as store:
        chunks = store.chunks(hit.chunk_id for hit in store.dense(QUERY, 5))

    assert set(keys) == missing_before
    assert set() == missing_after
    assert len({chunk.vector_id for chunk in chunks.values()}) == 1
    assert {"a/x.md", "b/x.md"} == {chunk.source for chunk in chunks.values()}


def test_a_changed_file_leaves_nothing_behind(filled: Path) -> None:
    """The old chunks are gone from every leg, and their ids are never given again."""
    with Store.open(filled) as store:
        before = {hit.chunk_id for hit in store.dense(QUERY, 10)}
        with Store.write(filled, SETTINGS) as writer:
            put(writer, make_file("guide/pump.md", ["A turbine makes power."]))
            dropped = writer.collect_garbage()

        assert store.document("guide/pump.md").document.text == "A turbine makes power."
        assert found(store, store.lexical(["pump", "valv"], 10, {}, (0.0, 1.0)))[:1] == [
            "notes.txt"
        ]
        assert store.document_frequencies(["valv"])["valv"] == 0
        new = {hit.chunk_id for hit in store.dense(QUERY, 10)} - before
        assert min(new) > max(before)
        store.check()
    assert dropped == 2
    assert index_count(filled) == 4


def test_a_moved_file_is_neither_doubled_nor_gone(filled: Path) -> None:
    """Its new path is committed and its old one removed in one generation."""
    with Store.open(filled) as store, Store.write(filled, SETTINGS) as writer:
        generation = store.generation
        moved = make_file("notes.txt", ["The fire drill is in May."], path="/root/old/notes.txt")
        put(writer, moved, removed=["/root/notes.txt"])

        assert generation + 1 == store.generation
        assert {"guide/pump.md", "guide/leave.md", "notes.txt"} == texts(store).keys()
        assert writer.known_sources()["notes.txt"] == "/root/old/notes.txt"


def test_two_files_cannot_hold_one_source(filled: Path) -> None:
    """The commit is refused, naming both, and nothing has changed."""
    clash = make_file("notes.txt", ["Other notes."], path="/elsewhere/notes.txt")
    with Store.write(filled, SETTINGS) as writer:
        with pytest.raises(UsageError, match=r"/root/notes\.txt and in /elsewhere/notes\.txt"):
            put(writer, make_file("new.md", ["New."]), clash)
        known = writer.known_sources()

    assert known["notes.txt"] == "/root/notes.txt"
    assert "new.md" not in known


@pytest.mark.parametrize("fault", ["no slice", "no vector", "not unit length", "wrong dimension"])
def test_a_commit_that_contradicts_itself_is_refused(folder: Path, fault: str) -> None:
    """What would make the store wrong never enters it."""
    file = make_file("a.md", ["Some text."])
    vectors = {key: unit(key) for key in file.documents[0].keys}
    if fault == "no slice":
        wrong = Chunk(0, 1, 5, "Some", 1, "Part")
        document = DocumentCommit(file.documents[0].document, (wrong,), file.documents[0].keys)
        file = FileCommit(file.record, (document,))
    elif fault == "no vector":
        vectors = {}
    else:
        row = np.ones(3, np.float32) if fault == "wrong dimension" else QUERY * 2
        vectors = dict.fromkeys(vectors, row)

    with Store.write(folder, SETTINGS) as writer:
        refusal = r"slice|no vector|unit length|vectors of 3 numbers, the store's have 8"
        with pytest.raises((ValueError, StoreMismatch), match=refusal):
            writer.commit([file], vectors)
        assert writer.known_files() == {}


# Removing


def test_removed_files_and_sources_are_named(filled: Path) -> None:
    """Unknown names are ignored; what is gone is gone from every leg."""
    with Store.write(filled, SETTINGS) as writer:
        by_path = writer.remove(paths=["/root/notes.txt", "/root/unknown"])
        by_source = writer.remove(sources=["guide/pump.md", "unknown"])
        left = writer.known_files().keys()
    with Store.open(filled) as store:
        remaining = texts(store)
        store.check()

    assert (by_path, by_source) == (("notes.txt",), ("guide/pump.md",))
    assert {"/root/guide/leave.md"} == left
    assert remaining == {"guide/leave.md": "Paid leave is 28 days."}


def test_a_file_that_loses_one_of_its_documents_is_read_again(folder: Path) -> None:
    """Its record no longer matches, so that the next ingest brings the document back."""
    lines = {"1": ["First line."], "2": ["Second line."]}
    with Store.write(folder, SETTINGS) as writer:
        put(writer, make_file_of("/root/corpus.jsonl", lines, {}))
        removed = writer.remove(sources=["1"])
        record = writer.known_files()["/root/corpus.jsonl"]
        sources = writer.known_sources().keys()

    assert removed == ("1",)
    assert (record.sha256, record.mtime_ns) == ("", 0)
    assert {"2"} == sources


def test_a_file_that_fails_keeps_its_last_readable_text(filled: Path) -> None:
    """The record says that it failed; the documents stay."""
    problems = (Problem("notes.txt", "looks binary", "leave it out"),)
    failed = FileRecord("/root/notes.txt", "/root", 9, 9, "", "text-1", "failed", problems)
    with Store.write(filled, SETTINGS) as writer:
        writer.record([failed])
    with Store.open(filled) as store:
        known = store.known_files()
        sources = store.file_sources()

    assert failed == known["/root/notes.txt"]
    assert sources["/root/notes.txt"] == ("notes.txt",)


def test_garbage_is_what_no_chunk_uses(filled: Path) -> None:
    """Vectors outlive their text until the end of a run, in case it comes back."""
    with Store.write(filled, SETTINGS) as writer:
        writer.remove(sources=["notes.txt"])
        kept = writer.missing_vectors(
            make_file("notes.txt", ["The fire drill is in May."]).documents[0].keys
        )
        dropped = [writer.collect_garbage(), writer.collect_garbage()]

    assert set() == kept
    assert dropped == [2, 0]


# Searching


def test_dense_search_is_the_cosine(filled: Path) -> None:
    """The ranking is that of a plain product with every vector."""
    with Store.open(filled) as store:
        hits = store.dense(QUERY, 10)
        rows = store.vectors([hit.chunk_id for hit in hits])
        best = store.dense(QUERY, 2)

    assert len(hits) == 5
    assert np.allclose(rows @ QUERY, [hit.score for hit in hits])
    assert sorted((hit.score for hit in hits), reverse=True) == [hit.score for hit in hits]
    assert hits[:2] == best


def test_vectors_come_in_the_order_asked_for(filled: Path) -> None:
    """Also backwards, and one of them twice."""
    with Store.open(filled) as store:
        ids = [hit.chunk_id for hit in store.dense(QUERY, 10)]
        forwards, backwards = store.vectors(ids), store.vectors([*ids[::-1], ids[0]])

    assert np.array_equal(forwards[::-1], backwards[:-1])
    assert np.array_equal(forwards[0], backwards[-1])


def test_lexical_search_ranks_by_bm25(filled: Path) -> None:
    """More of the terms is better, and every hit holds one."""
    with Store.open(filled) as store:
        hits = store.lexical(["pump", "test"], 10)
        frequencies = store.document_frequencies(["pump", "test", "absent"])

    assert found_first(filled, hits) == "notes.txt"
    assert frequencies == {"pump": 3, "test": 1, "absent": 0}
    assert all(hit.score > 0 for hit in hits)


def found_first(folder: Path, hits: Sequence[Hit]) -> str:
    with Store.open(folder) as store:
        return found(store, hits)[0]


@pytest.mark.parametrize(
    "term", ['"', '""', "NEAR(", "a AND b", "*", "body:x", "^x", "-x", "(", "'"]
)
def test_nothing_in_a_term_is_query_syntax(filled: Path, term: str) -> None:
    """A term is looked up, never obeyed."""
    with Store.open(filled) as store:
        assert store.lexical([term], 10) == []
        assert len(store.lexical([term, "pump"], 10)) == 3


def test_terms_of_any_script_are_found_whole(folder: Path) -> None:
    """What the analyser gives is not cut again; signs and joiners stay inside a term."""
    text = "E-1042 foo_bar v2.3.1 中文 ไทย न\u200dम l'état"
    odd = list(dict.fromkeys(terms(text)))

    with Store.write(folder, SETTINGS) as writer:
        put(writer, make_file("odd.md", [text]))
    with Store.open(folder) as store:
        frequencies = store.document_frequencies(odd)
        hits = [len(store.lexical([term], 5)) for term in odd]

    assert dict.fromkeys(odd, 1) == frequencies
    assert [1] * len(odd) == hits


@pytest.mark.parametrize(
    ("conditions", "sources"),
    [
        (["source=guide/"], {"guide/pump.md", "guide/leave.md"}),
        (["source=guide/p*"], {"guide/pump.md"}),
        (["source=guide/pump.md"], {"guide/pump.md"}),
        (["source=guide"], set()),
        (["title=notes"], {"notes.txt"}),
        (["media_type=text/plain", "author=ann"], {"guide/leave.md"}),
        (["author=Bob"], set()),
        (["tags=hr"], {"guide/leave.md"}),
        (["tags=people"], {"guide/leave.md"}),
        (["tags=peop"], set()),
        (["date>=2024-06"], {"guide/leave.md"}),
        (["date<=2024-06"], {"guide/leave.md", "notes.txt"}),
        (["date<2024-06"], {"notes.txt"}),
        (["date>2024-06"], set()),
        (["date>2023"], {"guide/leave.md"}),
        (["date=2023..2024-05"], {"notes.txt"}),
        (["date=..2023"], {"notes.txt"}),
        (["pages=1", "date>2023-01-01"], {"guide/leave.md", "notes.txt"}),
        (["pages>1"], set()),
        (["size>9.5"], {"notes.txt"}),
        (["x'-y=1"], None),
        (["author"], None),
        (["author="], None),
    ],
)
@pytest.mark.parametrize("exact_limit", [0, 100])
def test_filters_leave_out_what_does_not_match(
    filled: Path, conditions: list[str], sources: set[str] | None, exact_limit: int
) -> None:
    """In both legs, and whichever index would answer without a filter; nonsense is refused."""
    words = ["pump", "leav", "leave", "fire", "water"]
    if sources is None:
        with pytest.raises(UsageError, match="not a filter"):
            parse_filters(conditions)
        return
    filters = parse_filters(conditions)
    with Store.open(filled, exact_limit) as store:
        dense = found(store, store.dense(QUERY, 10, filters))
        lexical = found(store, store.lexical(words, 10, filters))

    assert sources == set(dense)
    assert sources == set(lexical)


# Readers beside a writer


def test_a_reader_sees_each_commit_and_a_snapshot_none(filled: Path) -> None:
    """Every call answers from the newest generation, those in a snapshot from one."""
    with Store.open(filled) as store, Store.write(filled, SETTINGS) as writer:
        with store.snapshot():
            before = (store.generation, texts(store), store.dense(QUERY, 10))
            put(writer, make_file("new.md", ["Brand new."]))
            during = (store.generation, texts(store), store.dense(QUERY, 10))
        after = store.generation
        new = store.document("new.md").chunks

        assert before == during
        assert before[0] + 1 == after
        assert len(store.dense(QUERY, 10)) == 6
        assert len(new) == 1


def test_a_reader_follows_a_store_that_was_replaced(filled: Path) -> None:
    """Deleted and ingested again: the same path is another store, with ids that start anew."""
    with Store.open(filled) as store:
        before = store.dense(QUERY, 10)
        shutil.rmtree(filled)
        with pytest.raises(StoreMissing):
            store.status()
        with Store.write(filled, SETTINGS) as writer:
            put(writer, make_file("other.md", ["Other words."]))

        assert texts(store) == {"other.md": "Other words."}
        assert found(store, store.dense(QUERY, 10)) == ["other.md"]
        assert len(before) == 5


def test_threads_see_whole_generations(folder: Path) -> None:
    """Readers in several threads never meet half a commit."""

    def look(store: Store) -> bool:
        with store.snapshot():
            versions = {text.split()[1] for text in texts(store).values()}
            hits = store.dense(QUERY, 20)
            return len(versions) == 1 and {"a.md", "b.md"} == set(found(store, hits))

    def version(number: int) -> list[FileCommit]:
        return [make_file(name, [f"Version {number} of {name}."]) for name in ("a.md", "b.md")]

    with Store.write(folder, SETTINGS) as writer, Store.open(folder) as store:
        put(writer, *version(0))
        with ThreadPoolExecutor(4) as pool:
            looks = [pool.submit(look, store) for _ in range(40)]
            for number in range(1, 8):
                put(writer, *version(number))
                looks += [pool.submit(look, store) for _ in range(5)]
            whole = [each.result() for each in looks]

    assert whole == [True] * 75


# The index above the limit


def test_a_large_store_is_answered_by_its_index(filled: Path) -> None:
    """Above the limit Chroma gives the ranking of the exact scan, and follows commits."""
    with Store.open(filled, exact_limit=0) as large, Store.open(filled) as small:
        before = [large.dense(QUERY, 10), small.dense(QUERY, 10)]
        with Store.write(filled, SETTINGS) as writer:
            put(writer, make_file("new.md", ["Brand new."]))
            meanwhile = [large.dense(QUERY, 10), small.dense(QUERY, 10)]
        after = [large.dense(QUERY, 10), small.dense(QUERY, 10)]
        warning = large.index_warning

    for ranking in (before, meanwhile, after):
        assert [h.chunk_id for h in ranking[1]] == [h.chunk_id for h in ranking[0]]
        assert [h.score for h in ranking[1]] == pytest.approx(
            [h.score for h in ranking[0]], abs=1e-5
        )
    assert warning is None


@pytest.mark.parametrize("fault", ["garbage", "missing", "incomplete"])
def test_a_broken_index_is_replaced_by_a_scan(filled: Path, fault: str) -> None:
    """The answer is the same, a warning names the repair, and the next commit makes it anew."""
    with Store.open(filled) as store:
        expected = store.dense(QUERY, 10)
    break_index(filled, fault)

    with Store.open(filled, exact_limit=0) as store:
        answer, warning = store.dense(QUERY, 10), store.index_warning
        if fault != "missing":  # as after a kill: the next writer makes it anew
            with pytest.raises(StoreDamaged):
                store.check()
    with Store.write(filled, SETTINGS) as writer:
        put(writer, make_file("new.md", ["Brand new."]))

    assert expected == answer
    assert warning is not None
    assert "rag rebuild" in warning
    assert index_count(filled) == 6


def break_index(folder: Path, fault: str) -> None:
    (index,) = folder.glob("index-*")
    if fault == "garbage":
        (index / "chroma.sqlite3").write_bytes(b"no database" * 1000)
    elif fault == "missing":
        shutil.rmtree(index)
    else:
        with ChromaIndex(index) as opened:
            opened.delete([1])


def test_reading_a_small_store_loads_no_chroma(filled: Path) -> None:
    """Below the limit a question costs no import of Chroma, torch or tiktoken."""
    script = (
        "import sys; from pathlib import Path; import numpy; from ingest.store import Store\n"
        f"with Store.open(Path({str(filled)!r})) as store:\n"
        f"    hits = store.dense(numpy.eye({DIMENSION})[0], 3)\n"
        "print(len(hits), sorted({'chromadb', 'torch', 'tiktoken'} & sys.modules.keys()))"
    )

    output = run_python("-c", script).stdout

    assert output == "3 []\n"


def run_python(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A Python that imports the code under test, wherever that was imported from here."""
    environment = {**os.environ, "PYTHONPATH": str(Path(ingest.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, *arguments], env=environment, capture_output=True, text=True, check=True
    )


# One contract for both indexes


@pytest.fixture(params=["exact", "chroma"])
def index(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ExactIndex | ChromaIndex]:
    if request.param == "exact":
        yield ExactIndex(DIMENSION)
        return
    with ChromaIndex(tmp_path / "index") as opened:
        yield opened


def rows(ids: Sequence[int]) -> np.ndarray:
    return np.array([unit(bytes([id_])) for id_ in ids], np.float32).reshape(-1, DIMENSION)


def test_an_empty_index_finds_nothing(index: ExactIndex | ChromaIndex) -> None:
    """No hits, no error, also after a delete."""
    index.delete([1])

    assert index.search(QUERY, 5) == []
    assert index.count() == 0


def test_an_index_ranks_by_cosine(index: ExactIndex | ChromaIndex) -> None:
    """The nearest first, never more than asked for or than there are."""
    ids = [7, 3, 12, 5]
    index.add(ids, rows(ids))
    cosines = dict(zip(ids, (rows(ids) @ rows([5])[0]).tolist()))

    hits = index.search(rows([5])[0], 10)

    assert sorted(ids, key=lambda id_: -cosines[id_]) == [hit.chunk_id for hit in hits]
    assert [cosines[hit.chunk_id] for hit in hits] == pytest.approx(
        [h.score for h in hits], abs=1e-5
    )
    assert hits[:2] == index.search(rows([5])[0], 2)
    assert index.search(rows([5])[0], 0) == []


def test_adding_again_changes_nothing(index: ExactIndex | ChromaIndex) -> None:
    """An id keeps its first vector, so that an add can be replayed."""
    index.add([1, 2], rows([1, 2]))
    index.add([2, 3], rows([9, 3]))

    assert index.count() == 3
    assert index.search(rows([2])[0], 1)[0].chunk_id == 2
    assert index.search(rows([9])[0], 1)[0].score < 0.999


def test_deleting_can_be_replayed(index: ExactIndex | ChromaIndex) -> None:
    """Unknown ids are ignored, and what is deleted is not found."""
    index.add([1, 2, 3], rows([1, 2, 3]))
    index.delete([2, 99])
    index.delete([2])
    index.add([], rows([]))

    assert {1, 3} == {hit.chunk_id for hit in index.search(QUERY, 5)}
    assert index.count() == 2


def test_equal_cosines_are_ranked_by_id() -> None:
    """A tie at the border of a ranking is settled the same way every time."""
    exact = ExactIndex(DIMENSION)
    exact.add([4, 2, 9, 7], np.repeat(rows([1]), 4, axis=0))

    assert [hit.chunk_id for hit in exact.search(QUERY, 2)] == [2, 4]


# What is refused


def test_no_store_says_what_to_run(tmp_path: Path) -> None:
    """A folder without a store, and one that is not there."""
    for place in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(StoreMissing) as raised:
            Store.open(place)
        assert "rag ingest" in raised.value.hint


def test_a_store_killed_at_birth_is_empty_and_can_be_written(folder: Path) -> None:
    """A database file without tables is no damage."""
    folder.mkdir()
    (folder / DATABASE).touch()
    with pytest.raises(StoreMissing, match="empty"):
        Store.open(folder)

    with Store.write(folder, SETTINGS) as writer:
        put(writer, make_file("a.md", ["Text."]))
    with Store.open(folder) as store:
        assert texts(store) == {"a.md": "Text."}


def test_another_format_is_refused(filled: Path) -> None:
    """By readers and writers, naming both versions."""
    with sqlite3.connect(filled / DATABASE) as connection:
        meta = read_meta(connection, filled)
        write_meta(connection, replace(meta, format=99))
    connection.close()

    for act in (lambda: Store.open(filled), lambda: Store.write(filled, SETTINGS).__enter__()):
        with pytest.raises(StoreMismatch, match="store format 99; this version uses 3"):
            act()


def test_a_store_keeps_its_settings(filled: Path) -> None:
    """Those of a writer are for a new store; an old one is brought over whole or not at all."""
    with Store.write(filled, IndexSettings("other-model", 3, 128)) as writer:
        assert writer.settings == SETTINGS
    with Store.open(filled) as store:
        assert store.settings == SETTINGS


@pytest.mark.parametrize("fault", ["no database", "truncated", "header"])
def test_a_damaged_file_is_named(filled: Path, fault: str) -> None:
    """Never a silent empty result."""
    path = filled / DATABASE
    data = path.read_bytes()
    broken = {
        "no database": b"not a database at all" * 100,
        "truncated": data[: len(data) // 2],
        "header": bytes(16) + data[16:],
    }[fault]
    path.write_bytes(broken)

    def read() -> None:
        with Store.open(filled) as store:
            texts(store)
            store.check()

    with pytest.raises(StoreDamaged) as raised:
        read()

    assert "rag rebuild" in raised.value.hint


def test_a_flipped_byte_never_changes_a_text(filled: Path) -> None:
    """Wherever it lies: the documents and chunks are right, or the store is called damaged."""
    path, chance = filled / DATABASE, random.Random(1)
    data = path.read_bytes()

    def read() -> object:
        with Store.open(filled) as store, store.snapshot():
            infos = store.sources()
            hits = store.dense(QUERY, 5)
            return (
                infos,
                [store.document(i.source) for i in infos],
                store.chunks(h.chunk_id for h in hits),
            )

    expected, seen = read(), []
    for _ in range(250):
        broken = bytearray(data)
        broken[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(broken)
        try:
            seen.append(read())
        except StoreError:
            continue

    assert all(expected == each for each in seen)
    assert 0 < len(seen) < 250


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE chunks SET start = start + 1",
        "UPDATE chunks SET page = 7",
        "UPDATE documents SET title = 'Another'",
        "UPDATE documents SET live = 0 WHERE id = 1",
        "DELETE FROM chunks WHERE ordinal = 1",
        "UPDATE vectors SET vector = zeroblob(32) WHERE id = 1",
        "UPDATE vectors SET vector = x'00'",
    ],
)
def test_a_changed_row_is_damage(filled: Path, change: str) -> None:
    """What still reads like a row is checked: spans, names, vectors, and how many there are."""
    with sqlite3.connect(filled / DATABASE) as connection:
        connection.execute(change)
    connection.close()

    def read(store: Store) -> None:
        with store.snapshot():
            store.chunks(hit.chunk_id for hit in store.dense(QUERY, 10))

    with Store.open(filled) as store, pytest.raises(StoreDamaged, match="store damaged"):
        read(store)


def test_a_lost_row_of_terms_is_damage(filled: Path) -> None:
    """A chunk that no word leads to any more would be missed by nobody."""
    with sqlite3.connect(filled / DATABASE) as connection:
        connection.execute("DELETE FROM terms WHERE rowid = 1")
    connection.close()

    with Store.open(filled) as store, pytest.raises(StoreDamaged, match="index of words"):
        store.lexical(["pump"], 5)


# Rebuilding


def test_a_rebuilt_store_answers_as_before(filled: Path) -> None:
    """Also in a reader that had it open, and with a broken vector index."""
    with Store.open(filled) as store:
        before = (texts(store), store.dense(QUERY, 10), store.lexical(["pump"], 10))
        generation = store.generation
        break_index(filled, "garbage")

        rebuilt = rebuild(filled)

        assert (
            rebuilt.documents,
            rebuilt.chunks,
            rebuilt.lost,
            rebuilt.damaged,
        ) == (3, 5, (), False)
        assert before == (texts(store), store.dense(QUERY, 10), store.lexical(["pump"], 10))
        assert generation + 1 == store.generation
        store.check()
    assert {DATABASE, "lock", "newest", "index-2"} == {
        p.name for p in filled.iterdir() if "-shm" not in p.name and "-wal" not in p.name
    }


def test_a_rebuild_saves_what_is_whole(filled: Path) -> None:
    """The altered document is named and its file will be read again; the others answer."""
    path = filled / DATABASE
    data = path.read_bytes()
    assert data.count(b"Paid leave is 28 days.") == 1
    path.write_bytes(data.replace(b"Paid leave is 28 days.", b"Paid leave is 99 days."))
    with Store.open(filled) as store, pytest.raises(StoreDamaged):
        store.document("guide/leave.md")

    rebuilt = rebuild(filled)

    with Store.open(filled) as store:
        remaining = texts(store)
        records = store.known_files()
        store.check()
    assert rebuilt.lost == ("guide/leave.md",)
    assert {"guide/pump.md", "notes.txt"} == remaining.keys()
    assert {""} == {record.sha256 for record in records.values()}


def test_a_torn_page_costs_only_its_documents(folder: Path) -> None:
    """With a page of the file overwritten, the rest is saved and can be asked."""
    paragraphs = [f"Paragraph {n} speaks of water. " + "x " * 500 for n in range(20)]
    with Store.write(folder, SETTINGS) as writer:
        put(
            writer,
            *[make_file(f"{i}.md", [f"File {i}. {p}" for p in paragraphs]) for i in range(6)],
        )
    path = folder / DATABASE
    data = bytearray(path.read_bytes())
    page = data.index(b"File 3. Paragraph 9 ") // 4096 * 4096
    data[page : page + 4096] = bytes(4096)
    path.write_bytes(data)

    rebuilt = rebuild(folder)

    with Store.open(folder) as store:
        remaining = texts(store)
        store.check()
    assert "3.md" not in remaining
    assert 5 == len(remaining) == rebuilt.documents
    assert rebuilt.lost == ("3.md",)


def test_what_cannot_be_rebuilt_says_so(tmp_path: Path, filled: Path) -> None:
    """No store, and a file that is no database any more."""
    (filled / DATABASE).write_bytes(b"no database" * 1000)

    with pytest.raises(StoreDamaged, match="beyond repair") as raised:
        rebuild(filled)
    with pytest.raises(StoreMissing):
        rebuild(tmp_path / "nowhere")

    assert "rag ingest" in raised.value.hint


# The file system


def test_a_store_is_private(filled: Path) -> None:
    """Folders 0700, files 0600."""
    modes = {p: p.stat().st_mode & 0o777 for p in [filled, *filled.rglob("*")]}

    assert {p: 0o700 if p.is_dir() else 0o600 for p in modes} == modes


def test_a_full_disk_loses_nothing(filled: Path) -> None:
    """A commit that cannot be written is an error, and the store answers as before."""
    script = (
        "import resource, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_ingest_store import *\n"
        "limit = (Path(sys.argv[1]) / DATABASE).stat().st_size + 200_000\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))\n"
        "try:\n"
        "    with Store.write(Path(sys.argv[1]), SETTINGS) as writer:\n"
        "        put(writer, make_file('big.md', [f'{n} ' + 'word ' * 400 for n in range(300)]))\n"
        "except StoreError as error: print(type(error).__name__, error)\n"
    )
    with Store.open(filled) as store:
        before = (store.generation, texts(store))

        output = run_python("-c", script, str(filled), str(Path(__file__).parent)).stdout

        assert output.startswith("StoreError")
        assert before == (store.generation, texts(store))
    with Store.write(filled, SETTINGS) as writer:
        put(writer, make_file("big.md", ["Now it fits."]))
    with Store.open(filled) as store:
        assert store.document("big.md").document.text == "Now it fits."
        store.check()


def test_a_read_only_store_answers_and_refuses_writers() -> None:
    """Another user's store, without leave to write."""
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from test_ingest_store import *\n"
        "Store.open(Path(sys.argv[1])).close()  # what is imported for it is root's here\n"
        "if os.getuid() == 0: os.setuid(65534)  # nothing is forbidden to root\n"
        "with Store.open(Path(sys.argv[1])) as store:\n"
        "    print(len(texts(store)), len(store.dense(QUERY, 9)))\n"
        "try: Store.write(Path(sys.argv[1]), SETTINGS).__enter__()\n"
        "except StoreError as error: print(error)\n"
    )
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / ".rag"
        with Store.write(folder, SETTINGS) as writer:
            put(writer, make_file("a.md", ["Text."]))
        Path(place).chmod(0o755)
        for path in [folder, *folder.rglob("*")]:
            path.chmod(0o555 if path.is_dir() else 0o444)
        try:
            output = run_python("-c", script, str(folder), str(Path(__file__).parent))
        finally:
            for path in [folder, *folder.rglob("*")]:
                path.chmod(0o700)

    refusal = {
        f"{folder} belongs to another user (0)",
        f"cannot write to {folder}: Permission denied",
    }
    answers, error = output.stdout.splitlines()
    assert answers == "1 1"
    assert error in refusal


# Any sequence of commits


NAMES = st.sampled_from(["a.md", "b.md", "c/d.md", "e.txt"])
TEXTS = st.lists(
    st.sampled_from(["Red fish.", "Blue fish.", "Green tea.", "Tea."]), min_size=1, max_size=3
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.dictionaries(NAMES, TEXTS, min_size=1, max_size=3)),
        st.tuples(st.just("remove"), st.sets(NAMES, min_size=1, max_size=2)),
        st.tuples(st.just("collect"), st.none()),
        st.tuples(st.just("rebuild"), st.none()),
    ),
    min_size=1,
    max_size=6,
)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
@example([("put", {"a.md": ["Tea."]}), ("remove", {"a.md"}), ("rebuild", None)])
def test_a_store_is_a_dictionary(steps: Sequence[tuple[str, object]]) -> None:
    """After any sequence of commits, removals and rebuilds it holds what a dictionary would."""
    with tempfile.TemporaryDirectory() as place:
        folder, model = Path(place) / ".rag", {}
        with Store.write(folder, SETTINGS):
            pass
        for step, value in steps:
            if step == "rebuild":
                rebuild(folder)
                continue
            with Store.write(folder, SETTINGS) as writer:
                if step == "put":
                    put(writer, *[make_file(name, text) for name, text in value.items()])
                    model |= value
                elif step == "remove":
                    writer.remove(sources=value)
                    model = {name: text for name, text in model.items() if name not in value}
                else:
                    writer.collect_garbage()
        with Store.open(folder) as store:
            store.check()
            assert {name: "\n\n".join(text) for name, text in model.items()} == texts(store)
            assert sum(map(len, model.values())) == store.chunk_count
            assert sorted(n for n, t in model.items() for p in t if "fish" in p) == sorted(
                found(store, store.lexical(["fish"], 50))
            )
