"""Question sets from disk: JSON lines, CSV, a folder with its own documents, or BEIR's form.

A file is questions alone, asked of the store at hand. A folder holds `questions.jsonl` (or
`questions.csv`) and may bring its documents as `corpus/`, `corpus.jsonl` or `docs/`, with gold in
each question's `evidence` or in `qrels.tsv`. A folder with `queries.jsonl` is read as BEIR's
(Thakur et al. 2021): `corpus.jsonl`, `queries.jsonl`, `qrels/test.tsv` or `qrels.tsv`.
"""

import csv
import hashlib
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from eval.rows import case_from_row
from eval.types import Case, EvalSet, Evidence
from ingest.errors import UsageError
from rag.rows import FIELDS_HINT, Row, RowError, json_rows

_QUESTIONS = ("questions.jsonl", "questions.csv")
_CORPORA = ("corpus", "corpus.jsonl", "docs")
_QRELS = ("qrels/test.tsv", "qrels.tsv")

Qrels = Mapping[str, tuple[Evidence, ...]]


def load_set(path: Path) -> EvalSet:
    """Read a question set. Raises UsageError that names file and line of what is wrong."""
    if path.is_file():
        name, cases, corpus = path.stem, _read_cases(path, files=False), None
    elif path.is_dir():
        name, (cases, corpus) = path.resolve().name, _load_folder(path)
    else:
        raise UsageError(
            f"no such question set: {path}", "give a questions.jsonl, a CSV, or a folder with one"
        )
    if not cases:
        raise UsageError(f"{path}: no questions in this set", FIELDS_HINT)
    return EvalSet(name, cases, corpus, _fingerprint(cases, corpus))


def limited(eval_set: EvalSet, limit: int | None) -> EvalSet:
    """At most `limit` cases, spread evenly over the set; the fingerprint then is another one."""
    count = len(eval_set.cases)
    if limit is None or limit >= count:
        return eval_set
    if limit < 1:
        raise UsageError(f"cannot run {limit} questions", "give --limit 1 or more")
    cases = tuple(eval_set.cases[index * count // limit] for index in range(limit))
    return replace(eval_set, cases=cases, fingerprint=_fingerprint(cases, eval_set.corpus))


def _load_folder(folder: Path) -> tuple[tuple[Case, ...], Path | None]:
    corpus = next((folder / name for name in _CORPORA if (folder / name).exists()), None)
    qrels_file = next((folder / name for name in _QRELS if (folder / name).is_file()), None)
    qrels = _read_qrels(qrels_file) if qrels_file else {}
    questions = next((folder / name for name in _QUESTIONS if (folder / name).is_file()), None)
    if questions is not None:
        files = corpus is not None and corpus.is_dir()
        cases = _read_cases(questions, files=files)
        return tuple(_with_qrels(case, qrels, files) for case in cases), corpus
    queries = folder / "queries.jsonl"
    if queries.is_file() and qrels_file is None:
        raise UsageError(f"{folder}: queries without qrels", "add qrels.tsv or qrels/test.tsv")
    if queries.is_file():
        return _read_queries(queries, qrels), corpus
    raise UsageError(
        f"no questions in {folder}", "a set's folder needs questions.jsonl, or BEIR's queries.jsonl"
    )


def _with_qrels(case: Case, qrels: Qrels, files: bool) -> Case:
    """Gold for one case: qrels name lines of a corpus.jsonl, and are whole where evidence is not.

    Where the documents are files, qrels only fill in for a case without evidence.
    """
    gold = qrels.get(case.id, ())
    return replace(case, evidence=gold) if gold and not (files and case.evidence) else case


def _read_cases(path: Path, *, files: bool) -> tuple[Case, ...]:
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    cases: dict[str, Case] = {}
    for line, row in rows:
        try:
            case = case_from_row(row, len(cases) + 1, files=files)
            if case.id in cases:
                raise RowError(f"the id {case.id!r} is used twice")
        except RowError as error:
            raise UsageError(f"{path}:{line}: {error}", FIELDS_HINT) from None
        cases[case.id] = case
    return tuple(cases.values())


def _read_queries(path: Path, qrels: Qrels) -> tuple[Case, ...]:
    """BEIR's queries of every split; those without relevance judgements are of another split."""
    cases = []
    for line, row in _json_rows(path):
        identity, question = str(row.get("_id", "")), row.get("text")
        if not identity or not isinstance(question, str) or not question.strip():
            raise UsageError(f"{path}:{line}: a query needs '_id' and 'text'", FIELDS_HINT)
        if identity in qrels:
            cases.append(Case(identity, question.strip(), evidence=qrels[identity]))
    return tuple(cases)


def _json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    for line, row in json_rows(_read_text(path)):
        if isinstance(row, RowError):
            raise UsageError(f"{path}:{line}: {row}", FIELDS_HINT)
        yield line, row


def _csv_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows by column name; a cell that is a JSON list is read as one."""
    reader = csv.DictReader(io.StringIO(_read_text(path), newline=""), strict=True)
    try:
        for row in reader:
            if None in row:
                raise UsageError(f"{path}:{reader.line_num}: more cells than columns", FIELDS_HINT)
            yield reader.line_num, {name: _cell(value) for name, value in row.items()}
    except csv.Error as error:
        raise UsageError(
            f"{path}:{reader.reader.line_num}: not CSV: {error}", FIELDS_HINT
        ) from None


def _cell(value: str | None) -> object:
    if value and value.startswith("["):
        try:
            return json.loads(value)
        except ValueError:  # An answer may well begin with a bracket.
            return value
    return value


def _read_qrels(path: Path) -> Qrels:
    """Positive judgements by query: (query, document, score), or TREC's four columns."""
    gold: dict[str, list[Evidence]] = {}
    for line, text in enumerate(_read_text(path).splitlines(), start=1):
        cells = text.split("\t") if "\t" in text else text.split()
        if len(cells) not in (0, 3, 4):
            raise UsageError(f"{path}:{line}: not three columns", "query-id, corpus-id, score")
        try:
            grade = float(cells[-1]) if cells else 0.0
        except ValueError:
            if line == 1:  # the header
                continue
            raise UsageError(f"{path}:{line}: {cells[-1]!r} is no score", "a number") from None
        if grade > 0:
            gold.setdefault(cells[0], []).append(Evidence(source=cells[-2], grade=grade))
    return {query: tuple(evidence) for query, evidence in gold.items()}


def _read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot read {path}: {error}", "give a UTF-8 text file") from None


def _fingerprint(cases: tuple[Case, ...], corpus: Path | None) -> str:
    """Sixteen hex digits over the questions, their gold and every file of the corpus."""
    digest = hashlib.sha256()
    for case in cases:
        digest.update(repr(case).encode())
    for path in _corpus_files(corpus):
        digest.update(f"{path.relative_to(corpus or path)} {_file_sha256(path)}\n".encode())
    return digest.hexdigest()[:16]


def _file_sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error}", "make the file readable") from None


def _corpus_files(corpus: Path | None) -> list[Path]:
    if corpus is None:
        return []
    return [corpus] if corpus.is_file() else sorted(p for p in corpus.rglob("*") if p.is_file())
