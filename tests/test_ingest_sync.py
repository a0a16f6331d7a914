"""Folders and the store kept in step: what changed is done again, and nothing else."""

import os
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from eval.benchmarks.durability.runs import index_count
from eval.benchmarks.hashes import HashEmbedder
from ingest.config import IndexSettings
from ingest.report import SyncReport
from ingest.store import Store
from ingest.sync import SyncSettings, remove, sync

OLD = 1_600_000_000


def write(folder: Path, files: Mapping[str, str]) -> Path:
    """Write files with an old date, so that they count as settled."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (OLD, OLD))
    return folder


def run(
    store: Path, *paths: Path, embedder: HashEmbedder | None = None, **changes: object
) -> SyncReport:
    """An ingest with vectors of hashes."""
    settings = replace(SyncSettings(), **changes)  # type: ignore[arg-type]
    return sync(store, paths, settings, embedder=embedder or HashEmbedder())


def contents(store: Path) -> dict[str, str]:
    """Every document's text; the whole store is checked on the way."""
    with Store.open(store) as opened:
        opened.check()
        found = [opened.document(info.source).document for info in opened.sources()]
        assert index_count(store) == opened.chunk_count
    return {document.source: document.text for document in found}


@pytest.fixture
def docs(tmp_path: Path) -> Path:
    return write(
        tmp_path / "docs",
        {"a.md": "# A\n\nThe first text.\n", "sub/b.txt": "Second.\n", "c.xyz": "no loader"},
    )


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / ".rag"


def test_an_unchanged_folder_is_not_read_again(docs: Path, store: Path) -> None:
    """Names, sizes and dates settle it; no process is started and nothing embedded."""
    first, embedder = run(store, docs), HashEmbedder()
    second = run(store, docs, embedder=embedder)

    assert first.added == ("a.md", "sub/b.txt")
    assert (second.added, second.updated, second.unchanged, second.chunks) == ((), (), 2, 0)
    assert [(p.source, p.message) for p in second.skipped] == [("c.xyz", "unsupported type")]
    assert embedder.calls == 0


def test_only_what_changed_is_embedded(docs: Path, store: Path) -> None:
    """A paragraph added to one of two files costs one chunk."""
    long = "\n\n".join(f"## Part {n}\n\nWords of part {n}." for n in range(9))
    write(docs, {"a.md": long})
    run(store, docs)
    write(docs, {"a.md": long + "\n\n## Part 9\n\nNew words."})
    embedder = HashEmbedder()
    report = run(store, docs, embedder=embedder)

    assert (report.updated, report.unchanged) == (("a.md",), 1)
    assert embedder.calls == 1


@pytest.mark.parametrize("name", ["a.md", "elsewhere/a.md", "renamed.md"])
def test_a_moved_file_keeps_its_vectors(docs: Path, store: Path, name: str) -> None:
    """Also one that is renamed and has no title of its own: a name is not embedded."""
    write(docs, {"a.md": "No heading here.\n"})
    run(store, docs)
    (docs / name).parent.mkdir(exist_ok=True)
    (docs / "a.md").rename(docs / name)
    embedder = HashEmbedder()
    run(store, docs, embedder=embedder)

    assert contents(store).keys() == {name, "sub/b.txt"}
    assert embedder.calls == 0


def test_a_file_that_vanished_is_removed_and_an_empty_root_is_not(docs: Path, store: Path) -> None:
    """An unmounted folder must not empty a store, unless that is said."""
    run(store, docs)
    (docs / "a.md").unlink()
    one = run(store, docs)
    (docs / "sub/b.txt").unlink()
    kept = run(store, docs)
    before = contents(store)
    pruned = run(store, docs, prune=True)

    assert (one.removed, kept.removed, pruned.removed) == (("a.md",), (), ("sub/b.txt",))
    assert "stay in the store" in kept.notes[0]
    assert (before.keys(), contents(store)) == ({"sub/b.txt"}, {})


def test_roots_are_remembered(docs: Path, store: Path, tmp_path: Path) -> None:
    """Without a path everything is brought up to date; a root that is gone loses nothing."""
    other = write(tmp_path / "other", {"d.md": "Another."})
    run(store, docs, other)
    write(docs, {"new.md": "New."})
    shutil.rmtree(other)
    report = run(store)

    assert (report.added, report.removed) == (("new.md",), ())
    assert any("is gone" in note for note in report.notes)
    assert "d.md" in contents(store)


def test_a_failed_file_is_tried_again_when_it_changes(docs: Path, store: Path) -> None:
    """Until then it is named each time, with its reason; its earlier text stays."""
    run(store, docs)
    (docs / "a.md").write_bytes(b"\x00\x01\x02" * 500)
    os.utime(docs / "a.md", (OLD, OLD))
    first, second = run(store, docs), run(store, docs)
    kept = contents(store)
    write(docs, {"a.md": "Mended."})
    third = run(store, docs)

    assert [p.source for p in first.failed] == [p.source for p in second.failed] == ["a.md"]
    assert "looks binary" in second.failed[0].message
    assert "The first text." in kept["a.md"]
    assert (third.failed, third.updated) == ((), ("a.md",))


def test_another_version_of_a_loader_reads_its_files_again(
    docs: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those of other formats stay as they are."""
    from ingest import load

    run(store, docs)
    formats = dict(load.FORMATS)
    formats["text/plain"] = replace(formats["text/plain"], version=99)
    monkeypatch.setattr(load, "FORMATS", formats)
    report = run(store, docs)

    # The text is what it was, so that the document stays as it is.
    assert (report.updated, report.unchanged) == ((), 2)
    with Store.open(store) as opened:
        loaders = {Path(path).name: r.loader for path, r in opened.known_files().items()}
    assert loaders["b.txt"] == "text/plain;version=99"
    assert loaders["a.md"] == f"text/markdown;version={formats['text/markdown'].version}"


CORPUS = (
    '{"_id": "1", "text": "One."}\n{"_id": "2", "text": "Two."}\n{"_id": "3", "text": "Three."}\n'
)


def test_of_a_file_with_many_documents_only_the_changed_ones_are_written(
    tmp_path: Path, store: Path
) -> None:
    """The others stay, and those that are gone from it go."""
    root = write(tmp_path / "set", {"corpus.jsonl": CORPUS})
    run(store, root)
    changed = CORPUS.replace("Two.", "Two and a half.").replace('{"_id": "3"', '{"_id": "4"')
    write(root, {"corpus.jsonl": changed})
    report = run(store, root)

    assert (report.added, report.updated, report.removed) == (("4",), ("2",), ("3",))
    assert (report.unchanged, report.chunks) == (1, 2)
    assert contents(store) == {"1": "One.", "2": "Two and a half.", "4": "Three."}


def test_a_large_file_is_committed_in_parts(
    tmp_path: Path, store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each part is a generation of whole documents; at its end nothing of the old file is left."""
    from ingest import sync as module

    monkeypatch.setattr(module, "_BATCH_CHUNKS", 3)
    lines = [f'{{"_id": "{n}", "text": "Text {n}."}}\n' for n in range(20)]
    root = write(tmp_path / "set", {"corpus.jsonl": "".join(lines)})
    run(store, root)
    with Store.open(store) as opened:
        generations = opened.generation
    write(root, {"corpus.jsonl": "".join(lines[10:]).replace("Text", "Other text")})
    report = run(store, root)

    assert generations >= 6
    assert len(report.updated) == len(report.removed) == 10
    assert contents(store) == {str(n): f"Other text {n}." for n in range(10, 20)}


def test_two_parts_of_one_name_are_told_apart(tmp_path: Path, store: Path) -> None:
    """The second is left out, and said."""
    root = tmp_path / "root"
    root.mkdir()
    with zipfile.ZipFile(root / "a.zip", "w") as archive:
        archive.writestr("one/corpus.jsonl", '{"_id": "d", "text": "First."}')
        archive.writestr("two/corpus.jsonl", '{"_id": "d", "text": "Second."}')
    report = run(store, root)

    assert contents(store) == {"d": "First."}
    assert [p.source for p in report.skipped] == ["d"]


def test_a_dry_run_says_what_a_run_does(docs: Path, store: Path) -> None:
    """Added, updated, removed and unchanged are those of the run that follows."""
    run(store, docs)
    write(docs, {"new.md": "New.", "a.md": "Changed."})
    os.utime(docs / "sub/b.txt")
    (docs / "gone.md").write_text("x")
    said = run(store, docs, dry_run=True)
    before = contents(store)
    done = run(store, docs)

    for name in ("added", "updated", "removed", "unchanged", "problems"):
        assert getattr(said, name) == getattr(done, name)
    assert before.keys() == {"a.md", "sub/b.txt"}


@pytest.mark.parametrize(
    ("index", "embedded"),
    [
        (IndexSettings(chunk_tokens=64), "some"),
        (IndexSettings(model="other-model"), "all"),
        (IndexSettings(analysis=99), "none"),
    ],
)
def test_other_settings_bring_the_whole_store_over(
    docs: Path, store: Path, index: IndexSettings, embedded: str
) -> None:
    """Without reading a file: chunks, terms and vectors are made anew of what is stored, and only
    texts that have no vector are embedded."""
    sentences = " ".join(f"Sentence number {n} is about subject {n}." for n in range(40))
    write(docs, {"long.md": sentences, "short.md": "Short."})
    run(store, docs)
    before = contents(store)
    shutil.move(docs, docs.with_name("away"))
    embedder = HashEmbedder(dimension=8 if embedded == "all" else 384, name=index.model)
    report = run(store, index=index, embedder=embedder)

    with Store.open(store) as opened:
        expected = replace(index, dimension=embedder.dimension)
        chunks = opened.chunk_count
        assert opened.settings == expected
        hits = opened.dense(np.eye(embedder.dimension, dtype=np.float32)[0], 100)
        assert len(hits) == chunks
    assert before == contents(store)
    assert any("brought over" in note for note in report.notes)
    counts = {"some": 0 < embedder.calls < chunks, "all": embedder.calls == chunks}
    assert counts.get(embedded, embedder.calls == 0)


def test_a_removed_source_leaves_nothing_behind(docs: Path, store: Path) -> None:
    """Not even its words in the database's file."""
    write(docs, {"secret.md": "Xylophones are stored in the cellar.\n"})
    run(store, docs)
    remove(store, ["secret.md"])

    data = b"".join(path.read_bytes() for path in store.rglob("*") if path.is_file())
    assert b"cellar" not in data
    assert b"xylophon" not in data.lower()
