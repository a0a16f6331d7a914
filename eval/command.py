"""`rag eval run`: a question set against a store, its own or the one at hand."""

import hashlib
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from eval.dataset import limited, load_set
from eval.metrics import ReadPlace, Support
from eval.run import RETRIEVAL_DEPTH, Checks, OnResult, evaluate, retrieve_only
from eval.types import CitedPlace, EvalSet, Report
from ingest.errors import UsageError
from ingest.report import OnProgress, Progress
from ingest.store import Store
from ingest.sync import sync
from ingest.types import StoredDocument, context
from rag.app import App, open_app, own_embedder, sync_settings
from rag.context import Question, term_weights
from rag.grounding.rows import header_above
from rag.grounding.verify import CoverageVerifier
from rag.instruments.ledger import EVALUATION
from rag.settings.config import Settings, find_store
from rag.types import Citation

# The single cut that agrees best with human labels of support. The three states that are shown
# with an answer cut higher, to warn early.
_SUPPORTS = 0.60
_UNSAFE = re.compile(r"[^\w.-]+")
# Documents of an average set that are held for looking up cited places.
_HELD_DOCUMENTS = 64


@dataclass(frozen=True, slots=True)
class RunOptions:
    """What is run: answers (extractive ones without a chat API) or retrieval alone."""

    extractive: bool = False
    retrieval_only: bool = False
    limit: int | None = None


def run_set(path: Path, settings: Settings, options: RunOptions, on_progress: OnProgress) -> Report:
    """Run a set from disk and score it.

    A set that brings its own documents is ingested into a store of its own in the user's cache,
    which later runs bring up to date; a store named by a flag is used as it is. Raises UsageError
    for a set that cannot be read, StoreError and ChatAuthError where no question can be asked.
    """
    eval_set = limited(load_set(path), options.limit)
    with open_app(settings, store_of(eval_set, settings, on_progress), EVALUATION) as app:
        if options.retrieval_only:
            return _search_all(app, eval_set, settings, on_progress)
        extractive = options.extractive or not settings.chat_configured
        return _ask_all(app, eval_set, settings, on_progress, extractive=extractive)


def _search_all(app: App, eval_set: EvalSet, settings: Settings, on_progress: OnProgress) -> Report:
    total = sum(bool(case.evidence) for case in eval_set.cases)
    return retrieve_only(
        eval_set,
        lambda case, k: app.search(case.question, k=k, history=case.messages).passages,
        {"answerer": "none", **_described(settings, RETRIEVAL_DEPTH)},
        _counted("searching", total, on_progress),
    )


def _ask_all(
    app: App, eval_set: EvalSet, settings: Settings, on_progress: OnProgress, *, extractive: bool
) -> Report:
    answerer = {"answerer": "extractive" if extractive else "chat"}
    if not extractive:
        answerer["model"] = settings.chat.model
    if app.resources.calibration is not None:
        answerer["calibration"] = "the store's own"
    return evaluate(
        eval_set,
        lambda case: app.ask(Question(case.question, history=case.messages, extractive=extractive)),
        Checks(place_reader(app.store), _supporter(app.store)),
        {**answerer, **_described(settings, settings.retrieval.k)},
        _counted("asking", len(eval_set.cases), on_progress),
    )


def cache_folder() -> Path:
    """Where stores of question sets are kept, by the XDG convention."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ragcite" / "eval"


def store_of(eval_set: EvalSet, settings: Settings, on_progress: OnProgress) -> Path:
    """The store that a set is asked of: one named by a flag, its own, or the one at hand.

    Its own is brought up to date; there is one for each place of the documents and settings.
    """
    if eval_set.corpus is None or settings.origins.get("store") == "flag":
        return find_store(settings)
    corpus = eval_set.corpus.resolve()
    identity = hashlib.sha256(f"{corpus} {settings.index}".encode()).hexdigest()[:12]
    folder = cache_folder() / f"{_UNSAFE.sub('_', eval_set.name)}-{identity}"
    embedder = own_embedder(settings)
    report = sync(folder, [corpus], sync_settings(settings), on_progress, embedder)
    if report.failed:
        raise UsageError(
            f"{len(report.failed)} documents of the set cannot be read, such as "
            f"{report.failed[0].source}",
            f"see `rag ingest {corpus} --dry-run`; mend them or take them out",
        )
    return folder


def _described(settings: Settings, k: int) -> dict[str, str]:
    """How passages were found, for the report."""
    return {
        "k": str(k),
        "alpha": str(settings.retrieval.alpha),
        "embedding": settings.embedding.model,
    }


def _counted(stage: str, total: int, on_progress: OnProgress) -> OnResult:
    done = 0

    def advance(_: object) -> None:
        nonlocal done
        done += 1
        on_progress(Progress(stage, done, total, "questions"))

    return advance


def place_reader(store: Store) -> ReadPlace:
    """Reads cited places from the store itself, so that nothing an answer says is trusted."""

    @lru_cache(_HELD_DOCUMENTS)
    def document(source: str) -> StoredDocument | None:
        try:
            return store.document(source)
        except UsageError:  # no such source: an invented citation
            return None

    def read(citation: Citation) -> CitedPlace | None:
        found = document(citation.source)
        if found is None:
            return None
        cited = found.document
        above = [context(cited, c) for c in found.chunks if c.start <= citation.start < c.end]
        names, _ = header_above(cited.text, citation.start)  # of a row's columns
        heading = " | ".join([above[0] if above else cited.shown_title, *names])
        return CitedPlace(heading, cited.text[citation.start : citation.end])

    return read


def _supporter(store: Store) -> Support:
    """The product's own verifier with one cut, weighing terms by the store's frequencies."""
    verifier = CoverageVerifier(term_weights(store))
    return lambda claim, texts: verifier.score(claim, texts) >= _SUPPORTS
