"""A store that has changed on disk, or comes from a stranger: right answers, or a named refusal."""

import json
import os
import random
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import ingest
from eval.benchmarks.hashes import HashEmbedder
from ingest import manifest, schema
from ingest.chroma import ChromaIndex
from ingest.errors import StoreBusy, StoreDamaged, StoreError, StoreMissing, UsageError
from ingest.filters import parse_filters
from ingest.rebuild import rebuild
from ingest.records import seal
from ingest.schema import DATABASE, NEWEST, place
from ingest.store import Store
from ingest.sync import SyncSettings, roots, sync
from ingest.words import terms

QUESTION = "Where does the blue pump stand?"
DOCUMENTS = {
    f"{name}.md": "\n\n".join(
        f"# Room {n}\n\nThe {name} pump stands in room {n}, beside the {name} valve."
        for n in range(4)
    )
    for name in ("red", "blue", "green")
}


def write(folder: Path, names: Sequence[str] = tuple(DOCUMENTS)) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).write_text(DOCUMENTS[name])
        os.utime(folder / name, (1_600_000_000, 1_600_000_000))
    return folder


def run(store: Path, *paths: Path) -> None:
    sync(store, paths, SyncSettings(), embedder=HashEmbedder())


def answers(store: Path, exact_limit: int = 50_000) -> object:
    """All that a store says, through every way of reading it."""
    with Store.open(store, exact_limit) as opened, opened.snapshot():
        infos = opened.sources()
        vector = HashEmbedder().embed_query(QUESTION)
        some = parse_filters(["source=b*"])
        hits = [
            *opened.dense(vector, 9),
            *opened.lexical(terms(QUESTION), 9),
            *opened.dense(vector, 9, some),
            *opened.lexical(terms(QUESTION), 9, some),
        ]
        return (
            [(i.source, i.title, i.path, i.chunks) for i in infos],
            [opened.document(info.source).document for info in infos],
            [(hit.chunk_id, round(hit.score, 5)) for hit in hits],
            list(opened.chunks(hit.chunk_id for hit in hits).values()),
            opened.document_frequencies(terms(QUESTION)),
            opened.known_files(),
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with documents, their store, and that store as a kill after the last of two runs
    would have left it."""
    folder = tmp_path_factory.mktemp("made")
    docs = write(folder / "docs", ["red.md", "green.md"])
    run(folder / ".rag", docs)
    with sqlite3.connect(folder / ".rag" / DATABASE) as reader:  # the journal is not merged
        reader.execute("SELECT * FROM meta").fetchall()
        run(folder / ".rag", write(docs))
        shutil.copytree(folder / ".rag", folder / "killed")
    reader.close()
    run(folder / ".rag")
    return folder


@pytest.fixture
def store(made: Path, tmp_path: Path) -> Path:
    """A copy that counts as made where it is."""
    return copy(made / ".rag", tmp_path / ".rag")


def copy(source: Path, target: Path) -> Path:
    shutil.copytree(source, target)
    for path in target.glob("index-*/manifest.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"place": place(target)}))
    return target


def change(store: Path, *statements: str) -> None:
    """Change the database as somebody who knows how it is sealed."""
    connection = sqlite3.connect(store / DATABASE)
    connection.create_function("seal", -1, seal)
    with connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()


# Damage


@pytest.mark.parametrize("part", range(4))
def test_a_flipped_byte_never_changes_an_answer(made: Path, tmp_path: Path, part: int) -> None:
    """Wherever it lies in the database, its journal or its header."""
    chance = random.Random(part)
    expected, seen = answers(made / ".rag"), []
    for number in range(60):
        store = shutil.copytree(made / "killed", tmp_path / str(number))
        path = store / chance.choice([DATABASE, f"{DATABASE}-wal", f"{DATABASE}-wal", NEWEST])
        data = bytearray(path.read_bytes())
        data[chance.randrange(100 if number % 10 == 0 else len(data)) % len(data)] ^= 1 << (
            number % 8
        )
        path.write_bytes(data)
        try:
            seen.append(answers(store))
        except StoreError:  # named: another kind of error ends the test
            continue

    assert all(each == expected for each in seen)
    assert 0 < len(seen) < 60


def test_a_changed_vector_is_not_carried_over(store: Path) -> None:
    """Not even the last digit of one: its document is lost to a rebuild and read again."""
    change(store, "UPDATE vectors SET vector = x'00000000' || substr(vector, 5) WHERE id = 2")
    with pytest.raises(StoreDamaged):
        answers(store)

    rebuilt = rebuild(store)

    assert len(rebuilt.lost) == 1


def test_a_changed_index_of_the_database_is_damage(store: Path) -> None:
    """A filter on a source would pass over a document without a word."""
    path = store / DATABASE
    data = path.read_bytes()
    places = [n for n in range(len(data)) if data.startswith(b"blue.md", n)]
    found = []
    for offset in places:
        path.write_bytes(data[:offset] + b"blux" + data[offset + 4 :])
        try:
            found.append(answers(store))
        except StoreError:
            continue
    path.write_bytes(data)

    assert len(places) >= 3
    assert all(each == answers(store) for each in found)


@pytest.mark.parametrize("loss", ["gone", "cut"])
def test_a_lost_journal_is_damage(made: Path, tmp_path: Path, loss: str) -> None:
    """Acknowledged changes are in it; without it the store is whole, but of an earlier day."""
    store = shutil.copytree(made / "killed", tmp_path / "store")
    journal = store / f"{DATABASE}-wal"
    journal.unlink() if loss == "gone" else os.truncate(journal, 100)

    with pytest.raises(StoreDamaged, match="last changes are missing") as raised:
        answers(store)
    with pytest.raises(StoreDamaged):
        run(store, made / "docs")
    rebuilt = rebuild(store)
    run(store, made / "docs")

    assert "rag rebuild" in raised.value.hint
    assert (rebuilt.damaged, rebuilt.documents) == (True, 2)
    assert answers(store)[:2] == answers(made / ".rag")[:2]


def test_the_database_of_another_store_is_damage(store: Path, tmp_path: Path) -> None:
    """It is whole in itself; a rebuild takes it for what it is."""
    run(tmp_path / "other", write(tmp_path / "docs", ["red.md"]))
    shutil.copy(tmp_path / "other" / DATABASE, store)

    with pytest.raises(StoreDamaged):
        answers(store)
    rebuild(store)

    assert [name for name, *_ in answers(store)[0]] == ["red.md"]


def test_a_store_without_its_database_is_missing(store: Path, made: Path) -> None:
    """A run without a path makes no empty one in its place; one with a path makes it anew."""
    (store / DATABASE).unlink()

    for act in (lambda: answers(store), lambda: run(store), lambda: rebuild(store)):
        with pytest.raises(StoreMissing):
            act()
    run(store, made / "docs")

    assert answers(store)[:2] == answers(made / ".rag")[:2]


@pytest.mark.parametrize("name", ["*/data_level0.bin", "chroma.sqlite3", "manifest.json"])
def test_a_changed_index_is_passed_over_and_made_anew(store: Path, made: Path, name: str) -> None:
    """Also one bit of a vector, which no query would show."""
    expected = answers(store, exact_limit=0)
    (path,) = store.glob(f"index-*/{name}")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)

    with Store.open(store, exact_limit=0) as opened:
        opened.dense(HashEmbedder().embed_query(QUESTION), 5)
        warning = opened.index_warning
    during = answers(store, exact_limit=0)
    (made / "docs" / "late.md").write_text("A late document.")
    run(store, made / "docs")
    (made / "docs" / "late.md").unlink()
    with Store.open(store, exact_limit=0) as opened:
        opened.dense(HashEmbedder().embed_query(QUESTION), 5)

        assert opened.index_warning is None
    assert expected == during
    assert "rag rebuild" in str(warning)


def test_an_index_that_could_not_be_made_is_not_taken_for_whole(
    store: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the one that was begun nor the broken one that it was to replace."""
    (index,) = store.glob("index-*")
    (index / "chroma.sqlite3").write_bytes(b"no database" * 1000)
    (made / "docs" / "late.md").write_text("A late document.")
    with monkeypatch.context() as patch:
        patch.setattr(ChromaIndex, "add", fail)
        with pytest.raises(StoreError, match="no room"):
            run(store, made / "docs")
    run(store, made / "docs")
    (made / "docs" / "late.md").unlink()

    with Store.open(store, exact_limit=0) as opened:
        hits = opened.dense(HashEmbedder().embed_query(QUESTION), 99)
        warning = opened.index_warning
    assert (len(hits), warning) == (13, None)


def fail(*_: object) -> None:
    raise StoreError("no room")


def test_a_rebuild_waits_for_readers(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one reads, the journal cannot be merged, and the old file is not whole without it."""
    monkeypatch.setattr(schema, "_BUSY_SECONDS", 0.1)
    connection = sqlite3.connect(store / DATABASE)
    connection.execute("BEGIN")
    connection.execute("SELECT * FROM meta").fetchall()
    write(store.parent / "docs", ["red.md"])
    run(store, store.parent / "docs")

    with pytest.raises(StoreBusy, match="reading"):
        rebuild(store)
    connection.close()

    assert rebuild(store).documents == 4


# A store from a stranger


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TRIGGER evil AFTER INSERT ON files BEGIN DELETE FROM documents; END",
        "CREATE VIEW evil AS SELECT load_extension('evil')",
        "CREATE TABLE evil (x)",
        "CREATE INDEX evil ON files (abs(size))",
    ],
)
def test_a_store_holds_no_tables_but_its_own(store: Path, made: Path, planted: str) -> None:
    """A trigger would run with the next commit, an expression with the next question."""
    change(store, planted)

    for act in (lambda: answers(store), lambda: run(store, made / "docs"), lambda: rebuild(store)):
        with pytest.raises(StoreDamaged):
            act()


@pytest.mark.parametrize(
    "misled",
    [
        "UPDATE chunks SET start = -5",
        "UPDATE chunks SET stop = 1 << 60",
        "UPDATE chunks SET header_start = 1 << 62, header_stop = -1",
        "UPDATE chunks SET page = 1 << 40",
        "UPDATE chunks SET start = 'x'",
        "UPDATE documents SET page_starts = '[', page_labels = '{}'",
        "UPDATE documents SET page_labels = '[\"i\"]', page_starts = '[0]'",
        "UPDATE documents SET metadata = '[[[['",
        "UPDATE documents SET structure = '[[1]]'",
        "UPDATE documents SET structure = '" + "[" * 100_000 + "'",
        "UPDATE files SET problems = '7'",
    ],
)
def test_values_that_mislead_are_damage(store: Path, misled: str) -> None:
    """Sealed anew, as only somebody would who means it; never a wrong quote, never a crash."""
    expected = answers(store)
    document = "file_id, source, title, media_type, sha256, page_starts, page_labels, metadata"
    chunk = "document_id, ordinal, start, stop, page, section, tokens, header_start, header_stop"
    change(
        store,
        misled,
        f"UPDATE documents SET seal = seal({document}, structure, chunk_count, family)",
        f"UPDATE chunks SET seal = seal({chunk}, family, vector_id)",
        """UPDATE files SET
           seal = seal(path, root, size, mtime_ns, sha256, loader, status, problems)""",
    )

    try:
        found = answers(store)
    except StoreDamaged:
        return
    quotes = [[(c.source, c.start, c.end, c.text) for c in each[3]] for each in (found, expected)]
    assert quotes[0] == quotes[1]


@pytest.mark.parametrize("name", ["lock", DATABASE, NEWEST, "index-1", "rebuild.sqlite3"])
def test_nothing_in_a_store_leads_out_of_it(
    store: Path, made: Path, tmp_path: Path, name: str
) -> None:
    """A writer would empty the file behind a link, or fill the folder."""
    outside = tmp_path / "outside"
    if (store / name).is_dir():
        shutil.move(store / name, outside)
    else:
        outside.write_text("mine")
        (store / name).unlink(missing_ok=True)
    (store / name).symlink_to(outside)
    before = outside.is_dir() or outside.read_text()

    for act in (lambda: answers(store), lambda: run(store, made / "docs"), lambda: rebuild(store)):
        with pytest.raises(StoreError, match="leads out of the store"):
            act()

    assert (outside.is_dir() or outside.read_text()) == before


def test_a_pipe_in_a_store_is_not_read(store: Path) -> None:
    """It would never end."""
    (store / NEWEST).unlink()
    os.mkfifo(store / NEWEST)

    with pytest.raises(StoreError, match="no file"):
        answers(store)


def test_a_store_of_another_user_is_only_read(
    store: Path, made: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is written into it would be theirs."""
    expected = answers(store)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    for act in (lambda: run(store, made / "docs"), lambda: rebuild(store)):
        with pytest.raises(StoreError, match="belongs to another user"):
            act()
    assert answers(store) == expected


def test_the_roots_of_a_store_from_elsewhere_are_not_followed(made: Path, tmp_path: Path) -> None:
    """It could name any folder of this machine; those that a person names here are."""
    secret, mine = write(tmp_path / "secret", ["red.md"]), write(tmp_path / "mine", ["blue.md"])
    run(tmp_path / "theirs", secret)
    store = shutil.copytree(tmp_path / "theirs", tmp_path / ".rag")
    (secret / "red.md").write_text("A secret.")

    for act in (lambda: run(store), lambda: roots(store, ()), lambda: dry_run(store)):
        with pytest.raises(UsageError, match="made elsewhere"):
            act()
    run(store, mine)
    run(store)

    assert roots(store, ()) == [mine]
    with Store.open(store) as opened:
        assert "secret" not in opened.document("red.md").document.text


def dry_run(store: Path) -> None:
    sync(store, (), SyncSettings(dry_run=True), embedder=HashEmbedder())


def test_the_index_of_a_store_from_elsewhere_is_not_opened(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Chroma would read what a stranger made; it is shown its own files alone."""
    store = shutil.copytree(made / ".rag", tmp_path / ".rag")
    (index,) = store.glob("index-*")
    opened: list[Path] = []
    monkeypatch.setattr(ChromaIndex, "__init__", lambda self, folder: opened.append(folder))

    answers(store, exact_limit=0)

    assert opened == []
    assert not manifest.is_there(index, place(store))


@pytest.mark.filterwarnings("ignore:Could not reconstruct")
def test_a_model_that_an_index_names_is_not_loaded(tmp_path: Path) -> None:
    """Chroma would fetch it from the hub, with its code."""
    script = (
        "import socket, sys, warnings; from pathlib import Path; import numpy\n"
        "from ingest.chroma import ChromaIndex\n"
        "def refuse(*_, **__): print('network'); raise OSError\n"
        "socket.getaddrinfo = socket.socket.connect = refuse; warnings.simplefilter('ignore')\n"
        "with ChromaIndex(Path(sys.argv[1])) as index:\n"
        "    index.add([2], numpy.eye(8, dtype='float32')[1:2])\n"
        "    print(index.count(), 'sentence_transformers' in sys.modules)\n"
    )
    with ChromaIndex(tmp_path / "index") as index:
        index.add([1], np.eye(8, dtype=np.float32)[:1])
    named = {"name": "sentence_transformer", "type": "known", "config": {
        "model_name": "a/stranger", "device": "cpu", "normalize_embeddings": False,
        "kwargs": {"trust_remote_code": True},
    }}  # fmt: skip
    with sqlite3.connect(tmp_path / "index" / "chroma.sqlite3") as connection:
        (text,) = connection.execute("SELECT schema_str FROM collections").fetchone()
        changed = text.replace('{"type":"legacy"}', json.dumps(named))
        connection.execute("UPDATE collections SET schema_str = ?", (changed,))
    connection.close()

    environment = {**os.environ, "PYTHONPATH": str(Path(ingest.__file__).parent.parent)}
    command = [sys.executable, "-c", script, str(tmp_path / "index")]
    done = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=60
    )

    assert changed != text
    assert done.stdout == "2 False\n"
