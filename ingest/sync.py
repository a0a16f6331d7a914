"""Files and folders into the store: what is new is added, what changed is replaced, what vanished
is removed. One bad file never stops a run, and the next run continues a killed one.

    discover → compare with the store → load and chunk (worker processes) → embed → commit
"""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path

from ingest.ahead import EmbedAhead, Embedding
from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.embed import Embedder, open_embedder
from ingest.errors import StoreMissing, UnsupportedFile
from ingest.load import Unread, loader_version
from ingest.loaders.options import DEFAULT_OPTIONS, LoadOptions
from ingest.plan import Plan, Target, absolute, make_plan
from ingest.read import Loaded, read_and_chunk
from ingest.records import DocumentCommit, FileCommit, FileRecord, Problem, file_sha256, keyed
from ingest.report import OnProgress, Progress, SyncReport
from ingest.reshape import reshape
from ingest.store import Store
from ingest.wordpieces import WordPieces
from ingest.worker import Finished, Pool
from ingest.writer import Writer

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
    roots = [absolute(path) for path in paths] or _followed(store)
    if settings.dry_run:
        return _dry_run(store, roots, settings, begun)
    embedder = embedder or open_embedder(settings.index.model, settings.engine)
    settings = replace(settings, index=_index_settings(store, settings.index, embedder))
    with Store.write(store, settings.index) as writer:
        if paths:
            writer.follow(map(str, roots))
        plan = make_plan(roots, writer.known_files(), settings.prune, settings.options)
        run = _Run(writer, settings, embedder, on_progress)
        if changes := _differences(writer.settings, settings.index):
            cut = partial(chunk, tokenizer=WordPieces(), settings=settings.index)
            reshape(writer, settings.index, embedder, run.show, cut)
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
    """A file on its way into the store: what was read of it and is not stored yet, and the names
    of all that was."""

    target: Target
    entries: list[DocumentCommit] = field(default_factory=list)
    texts: dict[bytes, str] = field(default_factory=dict)  # by vector key
    sources: set[str] = field(default_factory=set)
    problems: list[Problem] = field(default_factory=list)
    sha256: str = ""
    finished: bool = False


# What is to be committed once its vectors are there.
_Batch = tuple[list[FileCommit], list[FileRecord], Embedding]


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
        self._known = frozenset(self._names)
        self._documents = Counter(self._names.values())  # by path
        self._files: dict[Path, _File] = {}
        self._records: list[FileRecord] = []
        self._total = self._done = 0
        self._begun = time.perf_counter()
        self._added: list[str] = []
        self._updated: list[str] = []
        self._removed: list[str] = []
        self._problems: list[Problem] = []
        self._unchanged = self._chunks = self._tokens = 0
        self._truncated_before = embedder.truncated
        self._secrets: list[str] = []
        self.notes: list[str] = []

    def ingest(self, plan: Plan) -> None:
        """Load, embed and commit files in batches; drop those that vanished."""
        self._problems += plan.problems
        self._unchanged += sum(self._documents[path] for path in plan.unchanged)
        for target in plan.targets:  # the order of the files settles who has which name
            self._name(target.file.relative, target)
        changed = [target for target in plan.targets if not self._is_same(target)]
        self._total = len(changed)
        with EmbedAhead(self._embedder, self.show) as ahead:
            if sum(target.file.size for target in changed) > _MANY_BYTES:
                ahead.prepare()
            batch: _Batch = [], [], ahead.start({}, ())
            for file, part in self._read(changed):
                self._take(file, part)
                chunks = sum(len(e.chunks) for f in self._files.values() for e in f.entries)
                if chunks >= _BATCH_CHUNKS:
                    batch = self._flush(ahead, batch)
                self.show()
            # In one commit with the last files: one that moved is neither doubled nor missing.
            self._commit(self._flush(ahead, batch), plan.vanished)

    def report(self, plan: Plan, begun: float) -> SyncReport:
        """What was done."""
        truncated = self._embedder.truncated - self._truncated_before
        notes = [*plan.notes, *self.notes]
        if truncated:
            notes.append(f"{truncated} tokens did not fit the embedding model's window")
        if self._secrets:
            notes.append(f"secrets found in {'; '.join(self._secrets)}")
        return SyncReport(
            tuple(self._added),
            tuple(self._updated),
            tuple(self._removed),
            self._unchanged,
            tuple(self._problems),
            self._chunks,
            self._tokens,
            truncated,
            time.perf_counter() - begun,
            notes=tuple(notes),
        )

    def show(self, embedded: int = 0) -> None:
        """Tell the progress bar; `embedded` chunks of the batch at hand are done."""
        seconds = max(time.perf_counter() - self._begun, 0.001)
        rate = f"{(self._chunks + embedded) / seconds:.0f} chunks/s"
        self._on_progress(Progress("ingest", self._done, self._total, "files", rate))

    def _read(
        self, targets: Sequence[Target]
    ) -> Iterator[tuple[_File, Loaded | Unread | Finished]]:
        """Read files in worker processes."""
        options = self._settings.options
        work = partial(read_and_chunk, index=self._settings.index, options=options)
        jobs = max(1, min(self._settings.jobs, len(targets)))
        files = {target.file.path: _File(target) for target in targets}
        items = [(path, file.target.file.relative) for path, file in files.items()]
        with Pool[Loaded](work, options, jobs, lambda loaded: loaded.size) as pool:
            for (path, _), part in pool.read(items):
                self._files[path] = files[path]
                yield files[path], part

    def _take(self, file: _File, part: Loaded | Unread | Finished) -> None:
        if isinstance(part, Unread):
            error, skipped = part.error, isinstance(part.error, UnsupportedFile)
            file.problems.append(Problem(part.source, error.message, error.hint, skipped))
        elif isinstance(part, Loaded):
            self._add(file, part)
        else:
            self._finish(file)

    def _add(self, file: _File, part: Loaded) -> None:
        """Add a document under its name in the store; a second one of that name is left out."""
        file.sha256 = part.sha256
        name = self._name(part.document.source, file.target)
        if name in file.sources:
            problem = "another part of the file has this name", "rename one of them"
            file.problems.append(Problem(name, *problem, skipped=True))
            return
        file.sources.add(name)
        if part.secrets:
            self._secrets.append(f"{name} ({', '.join(part.secrets)})")
        document = replace(part.document, source=name)
        entry, texts = keyed(document, part.chunks, self._settings.index.model)
        file.entries.append(entry)
        file.texts |= texts

    def _finish(self, file: _File) -> None:
        """Note what came of a file. Where it could not be read itself, or is of no use to us, its
        earlier text stays."""
        self._done += 1
        self._problems += file.problems
        if any(problem.source == file.target.file.relative for problem in file.problems):
            del self._files[file.target.file.path]
            skipped = all(problem.skipped for problem in file.problems)
            record = _record(file, self._settings)
            self._records.append(replace(record, status="skipped" if skipped else "failed"))
        else:
            file.finished = True

    def _is_same(self, target: Target) -> bool:
        """Whether a file with a new date has its old content; its record is brought up to date."""
        known = _same_content(target, self._settings.options)
        if known:
            found = replace(known, size=target.file.size, mtime_ns=_settled(target))
            self._records.append(found)
            self._unchanged += self._documents[known.path]
            self._problems += known.problems
        return known is not None

    def _flush(self, ahead: EmbedAhead, before: _Batch) -> _Batch:
        """Begin to embed what is new in the files at hand; commit the batch before meanwhile."""
        commits: list[FileCommit] = []
        texts: dict[bytes, str] = {}
        for file in [file for file in self._files.values() if file.entries or file.finished]:
            commits.append(self._commit_of(file))
            texts |= file.texts
            file.entries, file.texts = [], {}
            if file.finished:
                del self._files[file.target.file.path]
        missing = self._writer.missing_vectors(texts) - before[-1].result().keys()
        batch: _Batch = commits, self._records, ahead.start(texts, missing)
        self._records = []
        self._commit(before)
        return batch

    def _commit_of(self, file: _File) -> FileCommit:
        record, entries = _record(file, self._settings), tuple(file.entries)
        if not file.finished:  # should the run end here, the next one reads the file again
            return FileCommit(replace(record, sha256="", mtime_ns=0), entries, None)
        stored = file.sources - {entry.document.source for entry in entries}
        return FileCommit(record, entries, frozenset(stored))

    def _commit(self, batch: _Batch, vanished: Sequence[str] = ()) -> None:
        """Commit a batch as one generation."""
        commits, records, vectors = batch
        outcome = self._writer.commit(commits, vectors.result(), vanished, records)
        entries = [entry for commit in commits for entry in commit.documents]
        written = frozenset(outcome.written)
        chunks = [c for e in entries if e.document.source in written for c in e.chunks]
        self._added += [source for source in outcome.written if source not in self._known]
        self._updated += [source for source in outcome.written if source in self._known]
        self._removed += outcome.removed
        self._unchanged += len(entries) - len(written)
        self._chunks += len(chunks)
        self._tokens += sum(chunk.tokens for chunk in chunks)

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
    old, new = asdict(before), asdict(now)
    return ", ".join(f"{n} {new[n]} (was {old[n]})" for n in new if new[n] != old[n])


def _dry_run(
    store: Path, roots: Sequence[Path], settings: SyncSettings, begun: float
) -> SyncReport:
    """What a run would do, without loading a file."""
    known: Mapping[str, FileRecord] = {}
    sources: Mapping[str, tuple[str, ...]] = {}
    notes: list[str] = []
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
        if _same_content(target, settings.options):
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


def _record(file: _File, settings: SyncSettings) -> FileRecord:
    found = file.target.file
    return FileRecord(
        path=str(found.path),
        root=str(file.target.root),
        size=found.size,
        mtime_ns=_settled(file.target),
        sha256=file.sha256,
        loader=loader_version(found.path.name, settings.options),
        problems=tuple(file.problems),
    )


def _settled(target: Target) -> int:
    """The date by which a file is known again, or 0: one changed this very moment may change again
    within its date's precision, and the next run looks at its content."""
    settled = time.time_ns() - target.file.mtime_ns > _SETTLED_NS
    return target.file.mtime_ns if settled else 0


def _same_content(target: Target, options: LoadOptions) -> FileRecord | None:
    """The record of a file that looks changed but holds the bytes it was last read with."""
    known, path = target.known, target.file.path
    if known and known.status == "ok" and known.loader == loader_version(path.name, options):
        with suppress(OSError):
            return known if file_sha256(path) == known.sha256 else None
    return None
