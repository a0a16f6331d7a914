"""Question sets are read from every accepted form, and errors name the line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.dataset import limited, load_set
from eval.rows import case_from_row
from eval.types import Case, Evidence
from ingest.errors import UsageError
from rag.types import Message


def write_lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    return path


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_questions_file_with_every_field(tmp_path):
    """All fields of our own form are kept, and unknown ones are passed over."""
    path = write_lines(
        tmp_path / "questions.jsonl",
        {
            "id": "q1",
            "question": " How long is the warranty? ",
            "answers": ["two years", "24 months"],
            "answerable": True,
            "evidence": [
                {"doc": "a.md", "text": "two years"},
                {"doc": "b.pdf", "page": 3},
                {"doc": "c.txt", "start": 10, "end": 19},
                {"doc": "d.txt", "label": "SUPPORT"},
                {"doc": "e.txt", "text": "nine", "start": 4},
            ],
            "tags": ["direct", "table"],
            "messages": [{"role": "user", "content": "Hello"}],
            "note": "anything",
        },
    )

    loaded = load_set(path)

    assert (
        Case(
            id="q1",
            question="How long is the warranty?",
            answers=("two years", "24 months"),
            answerable=True,
            evidence=(
                Evidence("a.md", text="two years"),
                Evidence("b.pdf", page=3),
                Evidence("c.txt", start=10, end=19),
                Evidence("d.txt"),
                Evidence("e.txt", text="nine", start=4, end=8),
            ),
            tags=("direct", "table"),
            messages=(Message("user", "Hello"),),
        ),
    ) == loaded.cases
    assert (loaded.name, loaded.corpus) == ("questions", None)


def test_unanswerable_and_minimal_rows(tmp_path):
    """A bare question is answerable and gets its position as id; `answerable` may say no."""
    path = write_lines(
        tmp_path / "q.jsonl", {"question": "One?"}, {"question": "Two?", "answerable": False}
    )

    assert [(c.id, c.answerable) for c in load_set(path).cases] == [("1", True), ("2", False)]


def test_history_is_read_as_earlier_turns(tmp_path):
    """`history` is another name for `messages`."""
    turns = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello."}]
    path = write_lines(tmp_path / "q.jsonl", {"question": "And then?", "history": turns})

    (case,) = load_set(path).cases

    assert (Message("user", "Hi"), Message("assistant", "Hello.")) == case.messages


def test_ragas_names(tmp_path):
    """ragas rows give question, reference answer and reference contexts."""
    path = write_lines(
        tmp_path / "ragas.jsonl",
        {
            "user_input": "Who wrote it?",
            "reference": "Ada",
            "reference_contexts": ["Ada wrote it in spring."],
            "retrieved_contexts": ["noise"],
            "response": "Bob",
        },
        {
            "user_input": [
                {"type": "human", "content": "Hello"},
                {"type": "ai", "content": "Yes?"},
                {"type": "human", "content": "Who?"},
            ],
            "reference_context_ids": ["a.md", "b.md"],
        },
    )

    first, second = load_set(path).cases

    assert (first.question, first.answers) == ("Who wrote it?", ("Ada",))
    assert (Evidence(text="Ada wrote it in spring."),) == first.evidence
    assert (Message("user", "Hello"), Message("assistant", "Yes?")) == second.messages
    assert ("Who?", (Evidence("a.md"), Evidence("b.md"))) == (second.question, second.evidence)


def test_csv(tmp_path):
    """Columns carry the same names; a cell may be a JSON list, tags have semicolons."""
    path = write_text(
        tmp_path / "set.csv",
        "\ufeffid,question,answers,answerable,doc,page,tags\r\n"
        'a,"Which colour, exactly?","[""red"", ""dark red""]",yes,x.pdf,2,direct;colour\r\n'
        "b,Where?,[unknown],FALSE,,,\r\n",
    )

    first, second = load_set(path).cases

    assert (first.question, first.answers) == ("Which colour, exactly?", ("red", "dark red"))
    assert ((Evidence("x.pdf", page=2),), ("direct", "colour")) == (first.evidence, first.tags)
    assert (second.answers, second.answerable, second.evidence) == (("[unknown]",), False, ())


@pytest.mark.parametrize("corpus", ["corpus/a.md", "corpus.jsonl", "docs/a.md"])
def test_folder_brings_its_documents(tmp_path, corpus):
    """A folder's documents are found under any of the three names."""
    write_lines(tmp_path / "questions.jsonl", {"question": "One?"})
    write_text(tmp_path / corpus, "{}")

    loaded = load_set(tmp_path)

    assert (tmp_path / corpus.split("/")[0], tmp_path.name) == (loaded.corpus, loaded.name)


def test_folder_without_documents_is_asked_of_the_store_at_hand(tmp_path):
    """Questions alone need no documents of their own."""
    write_lines(tmp_path / "questions.jsonl", {"question": "One?"})

    assert load_set(tmp_path).corpus is None


def test_qrels_are_gold_where_documents_are_lines(tmp_path):
    """qrels name the lines of corpus.jsonl, and win over partial evidence of the same row."""
    write_lines(
        tmp_path / "questions.jsonl",
        {"id": "1", "question": "One?", "evidence": [{"doc": "d1", "text": "part"}]},
        {"id": "2", "question": "Two?", "evidence": [{"doc": "d3"}]},
    )
    write_lines(tmp_path / "corpus.jsonl", {"_id": "d1", "text": "part"})
    write_text(tmp_path / "qrels.tsv", "query-id\tcorpus-id\tscore\n1\td1\t1\n1\td2\t2\n1\td9\t0\n")

    first, second = load_set(tmp_path).cases

    assert (Evidence("d1"), Evidence("d2", grade=2.0)) == first.evidence
    assert (Evidence("d3"),) == second.evidence


def test_evidence_names_files_where_documents_are_files(tmp_path):
    """With a corpus folder, `doc_file` is the document and qrels of passages do not count."""
    write_lines(
        tmp_path / "questions.jsonl",
        {"id": "1", "question": "One?", "evidence": [{"doc": "a#0", "doc_file": "a.md"}]},
    )
    write_text(tmp_path / "corpus" / "a.md", "text")
    write_text(tmp_path / "qrels.tsv", "query-id\tcorpus-id\tscore\n1\ta#0\t1\n")

    assert (Evidence("a.md"),) == load_set(tmp_path).cases[0].evidence


@pytest.mark.parametrize("qrels", ["qrels.tsv", "qrels/test.tsv"])
def test_beir_folder(tmp_path, qrels):
    """Only queries with judgements are cases: the others belong to another split."""
    write_lines(
        tmp_path / "queries.jsonl",
        {"_id": "7", "text": "Seven?", "metadata": {}},
        {"_id": "8", "text": "Eight?"},
    )
    write_lines(tmp_path / "corpus.jsonl", {"_id": "x", "title": "", "text": "words"})
    write_text(tmp_path / qrels, "query-id\tcorpus-id\tscore\n7\tx\t1\n")

    loaded = load_set(tmp_path)

    assert (Case("7", "Seven?", evidence=(Evidence("x"),)),) == loaded.cases
    assert tmp_path / "corpus.jsonl" == loaded.corpus


def test_trec_qrels(tmp_path):
    """TREC's four columns, with spaces and no header, are read too."""
    write_lines(tmp_path / "queries.jsonl", {"_id": "7", "text": "Seven?"})
    write_text(tmp_path / "qrels.tsv", "7 0 x 1\n7 0 y 0\n")

    assert (Evidence("x"),) == load_set(tmp_path).cases[0].evidence


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{"question": "One?"}\n\n{"question": }\n', "questions.jsonl:3: not JSON"),
        ("[1]\n", "questions.jsonl:1: not a JSON object"),
        ('{"id": "1"}\n', "questions.jsonl:1: no question"),
        ('{"question": "?", "answers": [{}]}\n', "questions.jsonl:1: 'answers' must"),
        ('{"question": "?", "answerable": "maybe"}\n', "questions.jsonl:1: 'answerable' must"),
        ('{"question": "?", "evidence": {}}\n', "questions.jsonl:1: 'evidence' must"),
        ('{"question": "?", "evidence": ["a.md"]}\n', "questions.jsonl:1: each of 'evidence'"),
        ('{"question": "?", "evidence": [{"page": 1}]}\n', "questions.jsonl:1: evidence needs a"),
        (
            '{"question": "?", "evidence": [{"doc": "a", "page": "x"}]}\n',
            "questions.jsonl:1: 'page' must",
        ),
        (
            '{"question": "?", "evidence": [{"doc": "a", "start": 5, "end": 5}]}\n',
            "questions.jsonl:1: evidence needs both",
        ),
        (
            '{"question": "?", "evidence": [{"doc": "a", "start": 5}]}\n',
            "questions.jsonl:1: evidence needs both",
        ),
        ('{"question": "?", "messages": ["x"]}\n', "questions.jsonl:1: each of 'messages'"),
        (
            '{"id": 1, "question": "?"}\n{"id": "1", "question": "?"}\n',
            "questions.jsonl:2: the id '1' is used twice",
        ),
        ("\n", "no questions in this set"),
    ],
)
def test_errors_name_file_and_line(tmp_path, text, expected):
    """Every mistake is reported with its place and a hint."""
    write_text(tmp_path / "questions.jsonl", text)

    with pytest.raises(UsageError) as caught:
        load_set(tmp_path)

    assert expected in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("set.csv", b"question,id\nOne?,1,2\n", "set.csv:2: more cells"),
        ("set.csv", b'question\n"One?\n', "set.csv:2: not CSV"),
        ("set.jsonl", b"\xff\xfe", "cannot read"),
    ],
)
def test_unreadable_files(tmp_path, name, content, expected):
    """Broken CSV and files that are not UTF-8 are refused with their place."""
    (tmp_path / name).write_bytes(content)

    with pytest.raises(UsageError, match=expected):
        load_set(tmp_path / name)


@pytest.mark.parametrize(
    ("qrels", "expected"),
    [
        ("1\ta\tyes\n1\tb\tno\n", "qrels.tsv:2: 'no' is no score"),
        ("1\ta\n", "qrels.tsv:1: not three columns"),
    ],
)
def test_bad_qrels(tmp_path, qrels, expected):
    """A bad judgement is reported with its line; only the first line may be a header."""
    write_lines(tmp_path / "queries.jsonl", {"_id": "1", "text": "One?"})
    write_text(tmp_path / "qrels.tsv", qrels)

    with pytest.raises(UsageError, match=expected):
        load_set(tmp_path)


def test_missing_sets(tmp_path):
    """No such path, a folder without questions, and queries without qrels are told apart."""
    with pytest.raises(UsageError, match="no such question set"):
        load_set(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no questions in"):
        load_set(tmp_path)
    write_lines(tmp_path / "queries.jsonl", {"_id": "1", "text": "One?"})
    with pytest.raises(UsageError, match="queries without qrels"):
        load_set(tmp_path)


def test_fingerprint_follows_questions_gold_and_documents(tmp_path):
    """The fingerprint is stable, and moves with a question, its gold, or a document's content."""
    row = {"id": "1", "question": "One?", "evidence": [{"doc": "a.md"}]}
    document = write_text(tmp_path / "corpus" / "a.md", "text")
    write_lines(tmp_path / "questions.jsonl", row)
    first = load_set(tmp_path).fingerprint
    assert first == load_set(tmp_path).fingerprint

    document.write_text("other")
    second = load_set(tmp_path).fingerprint
    write_lines(tmp_path / "questions.jsonl", {**row, "question": "Two?"})
    third = load_set(tmp_path).fingerprint
    write_lines(tmp_path / "questions.jsonl", {**row, "evidence": [{"doc": "b.md"}]})
    fourth = load_set(tmp_path).fingerprint

    assert len({first, second, third, fourth}) == 4


def test_limit_spreads_over_the_set(tmp_path):
    """A limited set takes cases from all of it, and is a set of its own."""
    path = write_lines(tmp_path / "q.jsonl", *({"question": f"{n}?"} for n in range(10)))
    whole = load_set(path)

    part = limited(whole, 3)

    assert [case.id for case in part.cases] == ["1", "4", "7"]
    assert part.fingerprint != whole.fingerprint
    assert limited(whole, 10) is limited(whole, None) is whole
    with pytest.raises(UsageError):
        limited(whole, 0)


@given(st.text(min_size=1).filter(str.strip), st.lists(st.text()))
def test_any_text_is_a_question(question, answers):
    """A row keeps its question and its non-empty answers, stripped."""
    case = case_from_row({"question": question, "answers": answers}, 1)

    assert question.strip() == case.question
    assert tuple(a.strip() for a in answers if a.strip()) == case.answers
