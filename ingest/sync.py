"""Files and folders into the store: what is new is added, what changed is replaced, what vanished
is removed. One bad file never stops a run, and the next run continues a killed one.

    discover → compare with the store → load and chunk (worker processes) → embed → commit
"""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from ingest.ahead import EmbedAhead
from ingest.config import IndexSettings
from ingest.embed import Embedder, open_embedder
from ingest.errors import LoadError, StoreMissing, UnsupportedFile
from ingest.load import Unread, loader_version
from ingest.loaders.options import DEFAULT_OPTIONS, LoadOptions
from ingest.plan import Plan, Target, absolute, make_plan
from ingest.read import Loaded, read_and_chunk
from ingest.records import (
    DocumentCommit,
    FileCommit,
    FileRecord,
    FileStatus,
    Problem,
    Vectors,
    vector_key,
)
from ingest.reshape import reshape
from ingest.store import Store
from ingest.types import embedded_text
from ingest.worker import Finished, Pool
from ingest.writer import Outcome, Writer

# Enough chunks to sort by length and to make a commit cheap; few enough to lose little to a kill.
_BATCH_CHUNKS = 512
# So many files want the fast engine, which is loaded while the first of them are read.
_MANY_BYTES = 2**20
_SETTLED_NS = 2_000_000_000


@dataclass(frozen=True, slots=True)
class SyncSettings:
    """How to ingest; `prune` None removes what vanished unless a whole root looks empty."""

    index: IndexSettings = IndexSettings()
    options: LoadOptions = DEFAULT_OPTIONS
    jobs: int = 1
    dry_run: bool = False
    prune: bool | None = None
    engine: str = "auto"


@dataclass(frozen=True, slots=True)
class SyncReport:
    """What a run did, by source. `unchanged` counts documents; `chunks` and `tokens` what was
    written, `truncated` the tokens that the embedding model did not read.
    """

    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0
    problems: tuple[Problem, ...] = ()
    chunks: int = 0
    tokens: int = 0
    truncated: int = 0
    seconds: float = 0.0
    dry_run: bool = False
    notes: tuple[str, ...] = ()

    @property
    def skipped(self) -> tuple[Problem, ...]:
        """What was left out on purpose."""
        return tuple(problem for problem in self.problems if problem.skipped)

    @property
    def failed(self) -> tuple[Problem, ...]:
        """What could not be read; what the store held of it before stays."""
        return tuple(problem for problem in self.problems if not problem.skipped)


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a run stands, for a progress bar."""

    stage: str
    done: int
    total: int
    unit: str
    detail: str = ""


OnProgress = Callable[[Progress], None]


def sync(
    store: Path,
    paths: Sequence[Path],
    settings: SyncSettings,
    on_progress: OnProgress = lambda progress: None,
    embedder: Embedder | None = None,
) -> SyncReport:
    """Bring `paths` into the store and say what was done; without paths, its remembered roots.

    A store that was built with other settings is brought over to these. Raises UsageError for a
    path that does not exist and StoreError where the store cannot be written. What a single file
    does wrong is in the report.
    """
    begun = time.perf_counter()
    roots = [absolute(path) for path in paths]
    if settings.dry_run:
        return _dry_run(store, roots, settings, begun)
    embedder = embedder or open_embedder(settings.index.model, settings.engine)
    settings = replace(settings, index=_index_settings(store, settings.index, embedder))
    roots = roots or _followed(store)
    with Store.write(store, settings.index) as writer:
        if paths:
            writer.follow(map(str, roots))
        plan = make_plan(roots, writer.known_files(), settings.prune, settings.options)
        run = _Run(writer, settings, embedder, on_progress)
        if changes := _differences(writer.settings, settings.index):
            reshape(writer, settings.index, embedder, run.show)
            run.notes.append(f"all documents were brought over to {changes}")
        run.ingest(plan)
        writer.collect_garbage()
    return run.report(plan, begun)


def roots(store: Path, paths: Sequence[Path]) -> list[Path]:
    """What an ingest of `paths` looks at: these, or without any the store's remembered roots."""
    if paths:
        return [absolute(path) for path in paths]
    return [path for path in _followed(store) if path.exists()]


def _followed(store: Path) -> list[Path]:
    """The roots that the store remembers, of which it still holds files."""
    with Store.open(store) as opened:
        followed = opened.followed()
        return [Path(root) for root in opened.status().roots if root in followed]


def remove(store: Path, sources: Sequence[str]) -> tuple[str, ...]:
    """Take documents out of the store by name; raises UsageError for an unknown one."""
    with Store.open(store) as opened:
        settings = opened.settings
        for source in sources:
            opened.document(source)
    with Store.write(store, settings) as writer:
        removed = writer.remove(sources=sources)
        writer.collect_garbage()
    return removed


@dataclass(slots=True)
class _File:
    """A file on its way into the store: what was read of it, and what of that is stored."""

    target: Target
    loaded: list[Loaded] = field(default_factory=list)
    sources: set[str] = field(default_factory=set)
    stored: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    sha256: str = ""
    finished: bool = False


@dataclass(frozen=True, slots=True)
class _Batch:
    """What is to be committed once its vectors are there."""

    commits: tuple[FileCommit, ...]
    records: tuple[FileRecord, ...]
    vectors: Future[Vectors]


class _Run:
    """One ingest under the writer lock: files go in, the report grows."""

    def __init__(
        self, writer: Writer, settings: SyncSettings, embedder: Embedder, on_progress: OnProgress
    ) -> None:
        self._writer = writer
        self._settings = settings
        self._embedder = embedder
        self._on_progress = on_progress
        self._names = dict(writer.known_sources())
        self._known = dict(self._names)
        self._files: dict[Path, _File] = {}
        self._records: list[FileRecord] = []
        self._batch: _Batch | None = None
        self._total = self._done = 0
        self._begun = time.perf_counter()
        self._counts = SyncReport()
        self._truncated_before = embedder.truncated
        self._secrets: list[str] = []
        self.notes: list[str] = []

    def ingest(self, plan: Plan) -> None:
        """Load, embed and commit files in batches; drop those that vanished."""
        self._counts = replace(self._counts, unchanged=self._documents_in(plan.unchanged))
        for target in plan.targets:  # the order of the files settles who has which name
            self._name(target.file.relative, target)
        changed = [target for target in plan.targets if not self._is_same(target)]
        self._total = len(changed)
        with EmbedAhead(self._embedder, self.show) as ahead:
            if sum(target.file.size for target in changed) > _MANY_BYTES:
                ahead.prepare()
            for file, part in self._read(changed):
                self._take(file, part)
                chunks = sum(len(one.chunks) for f in self._files.values() for one in f.loaded)
                if chunks >= _BATCH_CHUNKS:
                    self._flush(ahead)
                self.show()
            self._flush(ahead)
            # In one commit with the last files: one that moved is neither doubled nor missing.
            self._commit(plan.vanished)

    def report(self, plan: Plan, begun: float) -> SyncReport:
        """What was done."""
        truncated = self._embedder.truncated - self._truncated_before
        notes = [*plan.notes, *self.notes]
        if truncated:
            notes.append(f"{truncated} tokens did not fit the embedding model's window")
        if self._secrets:
            notes.append(f"secrets found in {'; '.join(self._secrets)}")
        return replace(
            self._counts,
            problems=(*plan.problems, *self._counts.problems),
            truncated=truncated,
            seconds=time.perf_counter() - begun,
            notes=tuple(notes),
        )

    def show(self, embedded: int = 0) -> None:
        """Tell the progress bar; `embedded` chunks of the batch at hand are done."""
        seconds = max(time.perf_counter() - self._begun, 0.001)
        rate = (self._counts.chunks + embedded) / seconds
        self._on_progress(
            Progress("ingest", self._done, self._total, "files", f"{rate:.0f} chunks/s")
        )

    def _read(
        self, targets: Sequence[Target]
    ) -> Iterator[tuple[_File, Loaded | Unread | Finished]]:
        """Read files in worker processes."""
        if not targets:
            return
        options = self._settings.options
        work = partial(read_and_chunk, index=self._settings.index, options=options)
        jobs = min(self._settings.jobs, len(targets))
        items = [(target.file.path, target.file.relative) for target in targets]
        by_path = {target.file.path: target for target in targets}
        with Pool[Loaded](work, options, jobs, lambda loaded: loaded.size) as pool:
            for (path, _), part in pool.read(items):
                yield self._files.setdefault(path, _File(by_path[path])), part

    def _take(self, file: _File, part: Loaded | Unread | Finished) -> None:
        source = file.target.file.relative
        if isinstance(part, Unread):
            file.problems.append(_problem(part.source, part.error))
        elif isinstance(part, Loaded):
            file.sha256 = part.sha256
            self._add(file, part)
        elif any(problem.source == source for problem in file.problems):
            self._fail(file)
        else:
            file.finished = True
            self._done += 1
            self._note_problems(file)

    def _add(self, file: _File, part: Loaded) -> None:
        """Add a document under its name in the store; a second one of that name is left out."""
        name = self._name(part.document.source, file.target)
        if name in file.sources:
            error = UnsupportedFile("another part of the file has this name", "rename one of them")
            file.problems.append(_problem(name, error))
            return
        file.sources.add(name)
        if part.secrets:
            self._secrets.append(f"{name} ({', '.join(part.secrets)})")
        file.loaded.append(replace(part, document=replace(part.document, source=name)))

    def _fail(self, file: _File) -> None:
        """Note a file that could not be read, or is of no use to us; its earlier text stays."""
        del self._files[file.target.file.path]
        self._done += 1
        skipped = all(problem.skipped for problem in file.problems)
        self._records.append(
            _record(file, self._settings, status="skipped" if skipped else "failed")
        )
        self._note_problems(file)

    def _note_problems(self, file: _File) -> None:
        self._counts = replace(self._counts, problems=(*self._counts.problems, *file.problems))

    def _is_same(self, target: Target) -> bool:
        """Whether a file with a new date has its old content; its record is brought up to date."""
        known = target.known
        if known is None or not _same_content(target, known, self._settings.options):
            return False
        self._records.append(replace(known, size=target.file.size, mtime_ns=_settled(target)))
        unchanged = self._counts.unchanged + self._documents_in([known.path])
        problems = (*self._counts.problems, *known.problems)
        self._counts = replace(self._counts, unchanged=unchanged, problems=problems)
        return True

    def _documents_in(self, paths: Sequence[str]) -> int:
        wanted = set(paths)
        return sum(path in wanted for path in self._known.values())

    def _flush(self, ahead: EmbedAhead) -> None:
        """Begin to embed what is new in the files at hand; commit the batch before meanwhile."""
        files = [file for file in self._files.values() if file.loaded or file.finished]
        commits = [self._commit_of(file) for file in files]
        texts = {
            key: embedded_text(d.document, c)
            for commit in commits
            for d in commit.documents
            for key, c in zip(d.keys, d.chunks, strict=True)
        }
        before = self._batch.vectors.result() if self._batch else {}
        missing = self._writer.missing_vectors(texts) - before.keys()
        batch = _Batch(tuple(commits), tuple(self._records), ahead.start(texts, missing))
        self._records.clear()
        for file in files:
            file.stored |= {one.document.source for one in file.loaded}
            file.loaded.clear()
            if file.finished:
                del self._files[file.target.file.path]
        if self._batch:
            self._commit()
        self._batch = batch

    def _commit(self, vanished: Sequence[str] = ()) -> None:
        """Commit the batch at hand as one generation."""
        batch, self._batch = self._batch, None
        if batch:
            vectors = batch.vectors.result()
            outcome = self._writer.commit(batch.commits, vectors, vanished, batch.records)
            self._count(batch.commits, outcome)

    def _commit_of(self, file: _File) -> FileCommit:
        model = self._settings.index.model
        documents = tuple(
            DocumentCommit(
                one.document,
                one.chunks,
                tuple(vector_key(model, embedded_text(one.document, c)) for c in one.chunks),
            )
            for one in file.loaded
        )
        if file.finished:
            return FileCommit(_record(file, self._settings), documents, frozenset(file.stored))
        # Should the run end here, the next one reads the file again.
        unread = replace(_record(file, self._settings), sha256="", mtime_ns=0)
        return FileCommit(unread, documents, None)

    def _count(self, commits: Sequence[FileCommit], outcome: Outcome) -> None:
        counts, written = self._counts, frozenset(outcome.written)
        entries = [entry for commit in commits for entry in commit.documents]
        chunks = [c for e in entries if e.document.source in written for c in e.chunks]
        self._counts = replace(
            counts,
            added=(*counts.added, *(s for s in outcome.written if s not in self._known)),
            updated=(*counts.updated, *(s for s in outcome.written if s in self._known)),
            removed=(*counts.removed, *outcome.removed),
            unchanged=counts.unchanged + len(entries) - len(written),
            chunks=counts.chunks + len(chunks),
            tokens=counts.tokens + sum(c.tokens for c in chunks),
        )

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


def _index_settings(store: Path, wanted: IndexSettings, embedder: Embedder) -> IndexSettings:
    """The settings with the dimension of the model, which need not be loaded where it is known."""
    with suppress(StoreMissing), Store.open(store) as opened:
        if opened.settings.model == wanted.model:
            return replace(wanted, dimension=opened.settings.dimension)
    return replace(wanted, dimension=embedder.dimension)


def _differences(before: IndexSettings, now: IndexSettings) -> str:
    names = IndexSettings.__slots__
    return ", ".join(
        f"{name} {getattr(now, name)} (was {getattr(before, name)})"
        for name in names
        if getattr(before, name) != getattr(now, name)
    )


def _dry_run(
    store: Path, roots: Sequence[Path], settings: SyncSettings, begun: float
) -> SyncReport:
    """What a run would do, without loading a file."""
    known: Mapping[str, FileRecord] = {}
    sources: Mapping[str, tuple[str, ...]] = {}
    notes: list[str] = []
    roots = roots or _followed(store)
    with suppress(StoreMissing), Store.open(store) as opened:
        known, sources = opened.known_files(), opened.file_sources()
        index = replace(settings.index, dimension=opened.settings.dimension)
        if changes := _differences(opened.settings, index):
            notes.append(f"all documents would be brought over to {changes}")
    plan = make_plan(roots, known, settings.prune, settings.options)
    added: list[str] = []
    updated: list[str] = []
    unchanged = list(plan.unchanged)
    for target in plan.targets:
        path = str(target.file.path)
        if target.known and _same_content(target, target.known, settings.options):
            unchanged.append(path)
        elif path in sources:
            updated += sources[path]
        else:
            added.append(target.file.relative)
    return SyncReport(
        tuple(added),
        tuple(updated),
        tuple(name for path in plan.vanished for name in sources.get(path, ())),
        sum(len(sources.get(path, ())) for path in unchanged),
        plan.problems,
        seconds=time.perf_counter() - begun,
        dry_run=True,
        notes=(*plan.notes, *notes),
    )


def _problem(source: str, error: LoadError) -> Problem:
    return Problem(source, error.message, error.hint, isinstance(error, UnsupportedFile))


def _record(file: _File, settings: SyncSettings, status: FileStatus = "ok") -> FileRecord:
    found = file.target.file
    return FileRecord(
        path=str(found.path),
        root=str(file.target.root),
        size=found.size,
        mtime_ns=_settled(file.target),
        sha256=file.sha256,
        loader=loader_version(found.path.name, settings.options),
        status=status,
        problems=tuple(file.problems),
    )


def _settled(target: Target) -> int:
    """The date by which a file is known again, or 0: one changed this very moment may change again
    within its date's precision, and the next run looks at its content."""
    settled = time.time_ns() - target.file.mtime_ns > _SETTLED_NS
    return target.file.mtime_ns if settled else 0


def _same_content(target: Target, known: FileRecord, options: LoadOptions) -> bool:
    """Whether a file that looks changed holds the bytes it was last read with."""
    if known.status != "ok" or known.loader != loader_version(target.file.path.name, options):
        return False
    try:
        return _file_sha256(target.file.path) == known.sha256
    except OSError:
        return False


def _file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
