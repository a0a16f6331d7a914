"""Near-duplicates find each other when they are stored, and lose each other when they go."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.config import IndexSettings
from ingest.families import band_keys, resemblance, shingles
from ingest.records import DocumentCommit, FileCommit, FileRecord, vector_key
from ingest.store import Store
from ingest.types import Block, Chunk, Document, embedded_text

SETTINGS = IndexSettings("test-model", 4)
TEXT = (
    "The pump of the northern plant moves forty litres of water a minute through the old filter "
    "and is switched off every Sunday evening before the inspection of the lower valves begins."
)
OTHER = (
    "Employees who travel by rail keep their tickets and hand them in with the form for expenses "
    "no later than the tenth working day of the month that follows their journey."
)


def file_of(source: str, texts: Sequence[str]) -> FileCommit:
    """A file of one document whose texts are its chunks."""
    text = "\n\n".join(texts)
    starts = [text.index(part) for part in texts]
    chunks = tuple(
        Chunk(n, start, start + len(part), part, None, "")
        for n, (start, part) in enumerate(zip(starts, texts, strict=True))
    )
    blocks = tuple(Block(c.start, c.end, "prose") for c in chunks)
    document = Document(source, "", "text/plain", text, blocks)
    keys = tuple(vector_key("test-model", embedded_text(document, c)) for c in chunks)
    record = FileRecord(f"/root/{source}", "/root", 1, 1, source, "text")
    return FileCommit(record, (DocumentCommit(document, chunks, keys),))


def put(folder: Path, *files: FileCommit, removed: Sequence[str] = ()) -> None:
    """Commit files together."""
    vectors = {
        key: np.eye(4, dtype=np.float32)[0]
        for file in files
        for document in file.documents
        for key in document.keys
    }
    with Store.write(folder, SETTINGS) as writer:
        writer.commit(files, vectors, removed)


def families(folder: Path) -> tuple[dict[str, int], dict[str, int]]:
    """The family of each document and that of its first chunk, by source."""
    with Store.open(folder) as store:
        store.check()
        hits = store.dense(np.eye(4, dtype=np.float32)[0], 100)
        chunks = sorted(store.chunks(h.chunk_id for h in hits).values(), key=lambda c: -c.start)
        documents = {info.source: info.family for info in store.sources()}
    return documents, {c.source: c.family for c in chunks}


@pytest.mark.parametrize("together", [True, False])
def test_two_versions_of_a_text_are_kin_and_another_text_is_not(
    tmp_path: Path, together: bool
) -> None:
    """Whether they come in one commit or one after the other."""
    files = [
        file_of("v1.txt", [TEXT]),
        file_of("v2.txt", [TEXT.replace("forty", "fifty")]),
        file_of("other.txt", [OTHER]),
    ]
    for batch in [files] if together else [[file] for file in files]:
        put(tmp_path / ".rag", *batch)

    for found in families(tmp_path / ".rag"):
        assert found["v1.txt"] == found["v2.txt"] != found["other.txt"]


def test_a_family_outlives_the_one_that_stood_for_it(tmp_path: Path) -> None:
    """Another member takes its place, so that a later version still finds the family."""
    put(tmp_path / ".rag", file_of("v1.txt", [TEXT]))
    put(tmp_path / ".rag", file_of("v2.txt", [TEXT.replace("forty", "fifty")]))
    put(tmp_path / ".rag", removed=["/root/v1.txt"])
    put(tmp_path / ".rag", file_of("v3.txt", [TEXT.replace("forty", "sixty")]))

    for found in families(tmp_path / ".rag"):
        assert found.keys() == {"v2.txt", "v3.txt"}
        assert len(set(found.values())) == 1


def test_an_edited_document_stays_in_its_family(tmp_path: Path) -> None:
    """Its new text is kin to its old one, which goes in the same commit."""
    put(tmp_path / ".rag", file_of("a.txt", [TEXT]), file_of("b.txt", [TEXT]))
    before = families(tmp_path / ".rag")
    put(tmp_path / ".rag", file_of("a.txt", [TEXT.replace("forty", "fifty")]))

    assert before == families(tmp_path / ".rag")


def test_documents_are_kin_if_most_of_their_chunks_are(tmp_path: Path) -> None:
    """One shared paragraph of three makes no version of a document."""
    parts = [" ".join(f"{word}{n}" for word in TEXT.split()) for n in range(3)]
    put(
        tmp_path / ".rag",
        file_of("whole.txt", parts),
        file_of("version.txt", [part.replace("filter", "sieve") for part in parts]),
        file_of("quoting.txt", [parts[0], OTHER, OTHER.replace("e", "a")]),
    )

    documents, chunks = families(tmp_path / ".rag")
    assert documents["whole.txt"] == documents["version.txt"] != documents["quoting.txt"]
    assert chunks["whole.txt"] == chunks["quoting.txt"]


def test_a_thousand_copies_cost_no_more_than_one(tmp_path: Path) -> None:
    """Only one of them stands in the bands."""
    import sqlite3

    put(tmp_path / ".rag", *[file_of(f"{n}.txt", [TEXT]) for n in range(200)])

    connection = sqlite3.connect(tmp_path / ".rag" / "store.sqlite3")
    (chunks,) = connection.execute("SELECT count(DISTINCT chunk_id) FROM bands").fetchone()
    connection.close()
    assert chunks == 1


WORDS = st.lists(st.sampled_from("abcdefg"), max_size=40)


@given(one=WORDS, other=WORDS)
def test_resemblance_is_that_of_sets(one: list[str], other: list[str]) -> None:
    """Symmetric, 1 for equals, within 0 and 1; equal sets have equal keys."""
    left, right = shingles(" ".join(one)), shingles(" ".join(other))

    assert resemblance(left, left) == 1.0
    assert 0.0 <= resemblance(left, right) == resemblance(right, left) <= 1.0
    if left == right:
        assert band_keys(left) == band_keys(right)


def test_kin_share_a_band_and_strangers_do_not() -> None:
    """Of a hundred pairs at .9 all are found; of a hundred strangers none is."""
    words = [f"w{n}" for n in range(60)]
    pairs = [[*words[:n], f"x{n}", *words[n + 1 :]] for n in range(10, 50)]
    keys = set(band_keys(shingles(" ".join(words))))

    assert all(keys & set(band_keys(shingles(" ".join(pair)))) for pair in pairs)
    strangers = [[f"{letter}{n}" for n in range(60)] for letter in "abcdefgh"]
    assert not any(keys & set(band_keys(shingles(" ".join(s)))) for s in strangers)
