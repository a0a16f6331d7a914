"""Files and folders into the store: what is new is added, what changed is replaced, what vanished
is removed. One bad file never stops a run, and the next run continues a killed one.

    discover → compare with the store → load and chunk (worker process) → embed → commit
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.embed import Embedder, open_embedder
from ingest.errors import LoadError, StoreMissing, UnsupportedFile
from ingest.load import load, loader_version
from ingest.loaders.limits import LoadLimits
from ingest.plan import Failure, Plan, Skip, Target, absolute, make_plan
from ingest.records import (
    DocumentCommit,
    FileCommit,
    FileRecord,
    FileStatus,
    Matrix,
    Vectors,
    vector_key,
)
from ingest.store import Store
from ingest.types import Chunk, Document, embedded_text
from ingest.wordpieces import WordPieces
from ingest.worker import Worker
from ingest.writer import Writer

# Enough chunks to sort by length and to make a commit cheap; few enough to lose little to a kill.
_BATCH_CHUNKS = 512
# Embedded at a time, so that the progress bar moves.
_EMBED_CHUNKS = 64
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How to ingest; `prune` None removes what vanished unless a whole root looks empty."""

    index: IndexSettings = IndexSettings()
    limits: LoadLimits = LoadLimits()
    jobs: int = 1
    dry_run: bool = False
    prune: bool | None = None


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a run did; `chunks` and `tokens` count what was written by it."""

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    skipped: tuple[Skip, ...] = ()
    failed: tuple[Failure, ...] = ()
    chunks: int = 0
    tokens: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for a progress bar."""

    stage: str
    done: int
    total: int
    unit: str
    detail: str = ""


OnProgress = Callable[[Progress], None]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the worker makes of one file."""

    sha256: str
    documents: tuple[tuple[Document, tuple[Chunk, ...]], ...]
    tokens: int


@dataclass(slots=True)
class _Tally:
    """The report while it grows."""

    added: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    failed: list[Failure] = field(default_factory=list)
    unchanged: int = 0
    chunks: int = 0
    tokens: int = 0


@dataclass(frozen=True, slots=True)
class _Pending:
    """A file that is loaded and waits to be embedded and committed."""

    target: Target
    loaded: Loaded


def sync(
    store: Path,
    paths: Sequence[Path],
    settings: SyncSettings,
    on_progress: OnProgress = lambda progress: None,
    embedder: Embedder | None = None,
) -> SyncReport:
    """Bring `paths` into the store and say what was done; without paths, its remembered roots.

    Raises UsageError for a path that does not exist and StoreError where the store cannot be
    written. What a single file does wrong is in the report.
    """
    begun = time.perf_counter()
    roots = [absolute(path) for path in paths]
    if settings.dry_run:
        return _dry_run(store, roots, settings, begun)
    with Store.write(store, settings.index) as writer:
        plan = make_plan(roots, writer.known_files(), settings.prune)
        run = _Run(writer, settings, embedder or open_embedder(settings.index.model), on_progress)
        run.ingest(plan.targets, plan.vanished)
        writer.collect_garbage()
    return _report(plan, run.tally, begun)


def remove(store: Path, sources: Sequence[str]) -> tuple[str, ...]:
    """Take documents out of the store by name; raises UsageError for an unknown one."""
    with Store.open(store) as opened:
        settings = opened.settings
        for source in sources:
            opened.document(source)
    with Store.write(store, settings) as writer:
        return writer.remove(sources=sources)


def load_and_chunk(path: Path, source: str, index: IndexSettings, limits: LoadLimits) -> Loaded:
    """The worker's task: one file to documents and chunks. Raises LoadError."""
    sha256 = _file_sha256(path)
    documents = load(path, source, limits)
    pieces = WordPieces()
    chunked = tuple((document, chunk(document, pieces, index)) for document in documents)
    tokens = sum(pieces.count(c.text) for _, chunks in chunked for c in chunks)
    return Loaded(sha256, chunked, tokens)


class _Run:
    """One ingest under the writer lock: files go in, the tally grows."""

    def __init__(
        self, writer: Writer, settings: SyncSettings, embedder: Embedder, on_progress: OnProgress
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._embedder = embedder
        self._on_progress = on_progress
        self._pending: list[_Pending] = []
        self._names = dict(writer.known_sources())
        self._held_before = frozenset(self._names.values())
        self._files = 0
        self._begun = time.perf_counter()
        self.tally = _Tally()

    def ingest(self, targets: Sequence[Target], vanished: Sequence[str]) -> None:
        """Load, embed and commit files in batches of whole files; drop those that vanished."""
        total = len(targets)
        for target, outcome in self._loaded(targets):
            self._files += 1
            if isinstance(outcome, LoadError):
                self._fail(target, outcome)
            else:
                self._pending.append(_Pending(target, outcome))
            if _chunk_count(self._pending) >= _BATCH_CHUNKS:
                self._flush(total)
            self._show(total)
        gone = set(vanished)
        self.tally.removed += sorted(name for name, path in self._names.items() if path in gone)
        # In one commit with the last files: one that moved is neither doubled nor missing.
        self._flush(total, vanished)

    def _loaded(self, targets: Sequence[Target]) -> Iterator[tuple[Target, Loaded | LoadError]]:
        """Read files in a worker process; what only looks changed is settled without it."""
        changed = [target for target in targets if not self._is_same(target)]
        if not changed:
            return
        work = partial(load_and_chunk, index=self._settings.index, limits=self._settings.limits)
        jobs = min(self._settings.jobs, len(changed))
        with ExitStack() as stack:
            shares = []
            for job in range(jobs):
                worker = stack.enter_context(Worker(work, self._settings.limits))
                share = [(t.file.path, t.file.relative) for t in changed[job::jobs]]
                shares.append(worker.map(share))
            # Dealt out in turn and taken back in turn: the order stays that of the files.
            for position, target in enumerate(changed):
                _, outcome = next(shares[position % jobs])
                yield target, outcome

    def _is_same(self, target: Target) -> bool:
        """Whether a file with a new date has its old content; its record is brought up to date."""
        known = target.known
        if known is None or not _same_content(target, known):
            return False
        self._writer.record_files([_record(target, known.sha256)])
        self.tally.unchanged += 1
        return True

    def _fail(self, target: Target, error: LoadError) -> None:
        """Note a file that could not be read, or is of no use to us; its earlier text stays."""
        status: FileStatus = "skipped" if isinstance(error, UnsupportedFile) else "failed"
        record = _record(target, "", status, error.message)
        self._writer.record_files([record])
        if status == "skipped":
            self.tally.skipped.append(Skip(target.file.relative, error.message))
        else:
            self.tally.failed.append(Failure(target.file.relative, error.message, error.hint))

    def _flush(self, total: int, vanished: Sequence[str] = ()) -> None:
        """Embed what is new in the pending files and commit them."""
        if not (self._pending or vanished):
            return
        commits = [self._commit_of(pending) for pending in self._pending]
        texts = {
            key: embedded_text(d.document.title, c.section, c.text)
            for commit in commits
            for d in commit.documents
            for key, c in zip(d.keys, d.chunks, strict=True)
        }
        missing = sorted(self._writer.missing_vectors(list(texts)))
        self._writer.commit(commits, self._embed(missing, texts, total), vanished)
        for pending, commit in zip(self._pending, commits, strict=True):
            names = [d.document.source for d in commit.documents]
            held = commit.record.path in self._held_before
            (self.tally.updated if held else self.tally.added).extend(names)
            self.tally.chunks += sum(len(d.chunks) for d in commit.documents)
            self.tally.tokens += pending.loaded.tokens
        self._pending.clear()

    def _embed(self, keys: Sequence[bytes], texts: Mapping[bytes, str], total: int) -> Vectors:
        """Vectors of new texts, longest first so that a batch holds texts of like length."""
        ordered = sorted(keys, key=lambda key: len(texts[key]), reverse=True)
        vectors: dict[bytes, Matrix] = {}
        for begin in range(0, len(ordered), _EMBED_CHUNKS):
            part = ordered[begin : begin + _EMBED_CHUNKS]
            rows = self._embedder.embed_documents([texts[key] for key in part])
            vectors |= dict(zip(part, rows, strict=True))
            self._show(total, embedded=begin + len(part))
        return vectors

    def _commit_of(self, pending: _Pending) -> FileCommit:
        target, loaded = pending.target, pending.loaded
        model = self._settings.index.model
        documents = []
        for document, chunks in loaded.documents:
            named = replace(document, source=self._name(document.source, target))
            keys = tuple(
                vector_key(model, embedded_text(named.title, c.section, c.text)) for c in chunks
            )
            documents.append(DocumentCommit(named, chunks, keys))
        return FileCommit(_record(target, loaded.sha256), tuple(documents))

    def _name(self, source: str, target: Target) -> str:
        """The name of a document: its own, or with as much of its root in front as tells it apart.

        A document that the store already has keeps the name it was first given.
        """
        path = str(target.file.path)
        folders = (target.root if target.root.is_dir() else target.root.parent).parts[1:]
        names = [source, *("/".join((*folders[-n:], source)) for n in range(1, len(folders) + 1))]
        name = next(n for n in names if self._names.get(n, path) == path)
        self._names[name] = path
        return name

    def _show(self, total: int, embedded: int = 0) -> None:
        seconds = max(time.perf_counter() - self._begun, 0.001)
        rate = (self.tally.chunks + embedded) / seconds
        waiting = len(self._pending) if embedded else 0
        done = self._files - waiting
        self._on_progress(Progress("ingest", done, total, "files", f"{rate:.0f} chunks/s"))


def _dry_run(
    store: Path, roots: Sequence[Path], settings: SyncSettings, begun: float
) -> SyncReport:
    """What a run would do, without loading a file."""
    known: Mapping[str, FileRecord] = {}
    sources: Mapping[str, tuple[str, ...]] = {}
    with suppress(StoreMissing), Store.open(store) as opened:
        known, sources = opened.known_files(), opened.file_sources()
    plan = make_plan(roots, known, settings.prune)
    tally = _Tally()
    for target in plan.targets:
        names = sources.get(str(target.file.path), ())
        if target.known is not None and _same_content(target, target.known):
            tally.unchanged += 1
        elif names:
            tally.updated += names
        else:
            tally.added.append(target.file.relative)
    for path in plan.vanished:
        tally.removed += sources.get(path, ())
    return replace(_report(plan, tally, begun), dry_run=True)


def _report(plan: Plan, tally: _Tally, begun: float) -> SyncReport:
    return SyncReport(
        tuple(tally.added),
        tuple(tally.updated),
        tuple(tally.removed),
        plan.unchanged + tally.unchanged,
        (*plan.skipped, *tally.skipped),
        (*plan.failed, *tally.failed),
        tally.chunks,
        tally.tokens,
        time.perf_counter() - begun,
        notes=plan.notes,
    )


def _record(target: Target, sha256: str, status: FileStatus = "ok", reason: str = "") -> FileRecord:
    file = target.file
    # A file changed this very moment may change again within its date's precision: without a date
    # the next run looks at its content.
    settled = time.time_ns() - file.mtime_ns > _SETTLED_NS
    return FileRecord(
        path=str(file.path),
        root=str(target.root),
        size=file.size,
        mtime_ns=file.mtime_ns if settled else 0,
        sha256=sha256,
        loader=loader_version(file.path.name),
        status=status,
        reason=reason,
    )


def _same_content(target: Target, known: FileRecord) -> bool:
    """Whether a file that looks changed holds the bytes it was last read with."""
    if known.status != "ok" or known.loader != loader_version(target.file.path.name):
        return False
    try:
        return _file_sha256(target.file.path) == known.sha256
    except OSError:
        return False


def _chunk_count(pending: Sequence[_Pending]) -> int:
    return sum(len(chunks) for p in pending for _, chunks in p.loaded.documents)


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
