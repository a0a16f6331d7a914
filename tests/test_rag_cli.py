"""The command line end to end: real processes, real model, real store."""

import json
import os
import pty
import shlex
import shutil
import signal
import sqlite3
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
from command import DOCUMENTS, Rag, clean_environment, write_documents

from ingest.schema import read_meta, write_meta

PASSAGE_KEYS = {
    "number", "source", "title", "page", "section", "start", "end", "text", "score",
    "dense_rank", "lexical_rank", "page_label", "header",
}  # fmt: skip
ANSWER_KEYS = {
    "question", "answer", "status", "answerer", "model", "sentences", "citations", "passages",
    "grounding", "confidence", "usage", "timings_ms", "warnings",
}  # fmt: skip


def test_an_answer_cites_the_exact_words(library: Rag) -> None:
    """Every quote is the stored text at its offsets, and every marker has its citation."""
    answer = library("ask", "How many days of paid leave does an employee have?", "--json").json

    assert answer.keys() >= ANSWER_KEYS
    assert (answer["status"], answer["answerer"]) == ("answered", "extractive")
    assert "28 days" in answer["answer"]
    for citation in answer["citations"]:
        text = library("show", citation["source"], "--json").json["text"]
        assert text[citation["start"] : citation["end"]] == citation["quote"]
        assert f"[{citation['number']}]" in answer["answer"]
    for sentence in answer["sentences"]:
        assert answer["answer"][sentence["start"] : sentence["end"]] == sentence["text"]
        assert sentence["citations"]


def test_an_answer_in_text_names_source_section_and_quote(library: Rag) -> None:
    """The terminal shows the answer, then numbered sources with their words."""
    result = library("ask", "What does error E-1042 of the pump mean?")

    assert result.code == 0
    assert "[1] manual.html" in result.out
    assert "“" in result.out
    assert "inlet valve is blocked" in result.out
    assert "no chat API configured" in result.err


def test_what_the_documents_do_not_hold_is_said(library: Rag) -> None:
    """An abstention is no error, unless it is asked to be one."""
    question = "Which composer wrote the opera Tosca?"

    answer = library("ask", question, "--json").json

    assert (answer["status"], answer["sentences"], answer["citations"]) == ("abstained", [], [])
    assert answer["grounding"] is None
    assert answer["passages"]
    refused = library("ask", question, "--fail-on-abstain")
    assert (refused.code, library("ask", question).code) == (10, 0)
    assert "Not in your documents" in refused.out
    assert "--anyway" in refused.err


def test_a_refused_question_can_be_tried_nevertheless(library: Rag) -> None:
    """Then the best sentences are shown, cited and with a caution."""
    result = library("ask", "Which composer wrote the opera Tosca?", "--anyway")

    assert result.code == 0
    assert "[1]" in result.out
    assert "may not hold the answer" in result.err


def test_a_filter_that_leaves_nothing_is_said(library: Rag) -> None:
    """What no document passes is no word of what they lack; "how many" is never missing."""
    nothing = library("ask", "Who leads the evacuation?", "--filter", "type=pdf", "--json").json
    lacking = library("ask", "How many zebras are there?", "--json").json

    assert (nothing["status"], nothing["missing"]) == ("abstained", [])
    assert nothing["warnings"] == ["no document passes the filters"]
    assert (lacking["status"], lacking["missing"]) == ("abstained", ["zebras"])


def test_search_gives_ranked_passages(library: Rag) -> None:
    """Search is retrieval alone, in the passages' shape."""
    result = library("search", "first class train", "-k", "2", "--json").json

    assert len(result["passages"]) == 2
    assert result["passages"][0].keys() == PASSAGE_KEYS
    assert result["passages"][0]["source"] == "handbook/travel.md"
    assert "passages" not in library("search", "first class train").out


def test_filters_narrow_the_search(library: Rag) -> None:
    """Only documents that match are retrieved; a malformed filter is refused."""
    narrowed = library("search", "days", "--filter", "source=handbook/*", "--json").json

    assert {p["source"].split("/")[0] for p in narrowed["passages"]} == {"handbook"}
    assert library("search", "days", "--filter", "nonsense").code == 2


def test_a_question_can_be_piped(library: Rag) -> None:
    """`-` or a pipe reads the question from standard input."""
    question = "When does the office in Bremen open?\n"

    answers = [
        library("ask", "-", "--json", stdin=question).json,
        library("ask", "--json", stdin=question).json,
    ]

    assert [a["question"] for a in answers] == [question.strip()] * 2


def test_explain_shows_both_legs(library: Rag) -> None:
    """--explain writes scores and fates to standard error and leaves the answer alone."""
    plain = library("ask", "Who leads the evacuation?", "--json")
    explained = library("ask", "Who leads the evacuation?", "--json", "--explain")

    assert "cosine" in explained.err
    assert "bm25" in explained.err
    assert "shown: notes.txt" in explained.err
    assert explained.json["answer"] == plain.json["answer"]


def test_a_dry_run_sends_nothing(library: Rag) -> None:
    """Passages with their tokens, the reserve and the cost; no API is asked, none is there."""
    closed = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "RAG_MODEL": "own"}
    priced = closed | {"RAG_CHAT_PRICE_IN": "1", "RAG_CHAT_PRICE_OUT": "2"}
    question = "How many days of paid leave does an employee have?"

    data = library("ask", question, "--dry-run", "--json", environment=priced).json
    text = library("ask", question, "--dry-run", environment=closed).out

    assert (data["action"], data["model"], data["window"]) == ("ask", "own", None)
    assert (data["reserve"], data["budget"], data["dropped"]) == (500, 3000, 0)
    assert data["passages"][0].keys() == PASSAGE_KEYS | {"tokens"}
    assert sum(p["tokens"] for p in data["passages"]) < data["prompt_tokens"] <= 2500
    assert data["cost_usd"] == pytest.approx((data["prompt_tokens"] + 2 * 500) / 1e6)
    assert "1. handbook/leave.md" in text
    assert f"about {data['prompt_tokens']} tokens" in text
    assert "price unknown" in text


def test_a_dry_run_says_what_would_happen_without_a_model(library: Rag) -> None:
    """Nothing would be sent where there is no API, and for what the documents do not hold."""
    extractive = library("ask", "What does error E-1042 mean?", "--dry-run", "--json")
    refused = library("ask", "Which composer wrote the opera Tosca?", "--dry-run", "--explain")

    assert "bm25" in refused.err
    assert extractive.json["action"] == "extract"
    assert extractive.json["cost_usd"] > 0
    assert "refused" in refused.out


def test_a_budget_is_kept(library: Rag) -> None:
    """--budget bounds the prompt; one without room for a passage is refused with what to do."""
    arguments = ("ask", "When does the office in Bremen open?", "--dry-run", "--json")

    tight = library(*arguments, "--budget", "800").json
    tighter = library(*arguments, "--budget", "300")

    assert tight["prompt_tokens"] + tight["reserve"] <= tight["budget"] == 800
    assert "Bremen" in tight["passages"][0]["text"]
    assert tighter.code == 2
    assert "--budget" in tighter.json["error"]["hint"]


def test_status_list_and_show(library: Rag) -> None:
    """Looking into the store: counts, sources, text, a span of it."""
    status = library("status", "--json").json
    sources = {s["source"] for s in library("list", "--json").json["sources"]}
    span = library("show", "notes.txt", "--span", "0:7").out

    assert status["documents"] == len(DOCUMENTS)
    assert status["roots"] == [str(library.folder / "docs")]
    assert sources == set(DOCUMENTS)
    assert span == "Meeting\n"
    assert library("show", "notes.txt", "--page", "1").code == 2
    assert library("show", "notes.txt", "--span", "7").code == 2
    unknown = library("show", "note.txt")
    assert (unknown.code, "notes.txt" in unknown.err) == (2, True)


def test_scripts_and_navigation_are_not_text(library: Rag) -> None:
    """What a browser does not show is not in the store."""
    text = library("show", "manual.html").out

    assert "P-200 moves 40 litres" in text
    assert "secret script" not in text
    assert "Home Products" not in text


def test_ingest_follows_edits_deletions_and_renames(rag: Rag) -> None:
    """Edits replace, vanished files go, renames are not doubled, the rest is left alone."""
    docs = write_documents(rag.folder / "docs")
    rag("ingest", "docs")
    (docs / "notes.txt").write_text("The fire drill takes place on 3 June.\n")
    (docs / "manual.html").unlink()
    (docs / "büro.md").rename(docs / "office.md")

    planned = rag("ingest", "docs", "--dry-run", "--json").json
    report = rag("ingest", "docs", "--json").json
    again = rag("ingest", "--json").json

    assert sorted(report["added"] + report["updated"]) == ["notes.txt", "office.md"]
    assert report["updated"] == planned["updated"] == ["notes.txt"]
    assert sorted(report["removed"]) == sorted(planned["removed"]) == ["büro.md", "manual.html"]
    assert report["unchanged"] == 2
    assert (again["added"], again["updated"], again["removed"]) == ([], [], [])
    assert again["unchanged"] == 4
    assert "12 May" not in rag("show", "notes.txt").out
    assert {p["source"] for p in rag("search", "pump", "--json").json["passages"]} <= {
        "notes.txt", "office.md", "handbook/leave.md", "handbook/travel.md"
    }  # fmt: skip


def test_a_touched_file_is_not_embedded_again(rag: Rag) -> None:
    """A new date on the same content changes nothing."""
    docs = write_documents(rag.folder / "docs")
    rag("ingest", "docs")
    os.utime(docs / "notes.txt", (1, 1))

    report = rag("ingest", "docs", "--json").json

    assert (report["unchanged"], report["chunks"]) == (len(DOCUMENTS), 0)


def test_colliding_names_get_their_root_in_front(rag: Rag) -> None:
    """Two roots with a file of the same name keep both, under two names."""
    write_documents(rag.folder / "a" / "docs", {"readme.md": "# One\n\nThe first readme.\n"})
    write_documents(rag.folder / "b" / "docs", {"readme.md": "# Two\n\nThe second readme.\n"})

    first = rag("ingest", "a/docs", "--json").json
    second = rag("ingest", "b/docs", "--json").json
    again = rag("ingest", "a/docs", "b/docs", "--json").json

    assert first["added"] == ["readme.md"]
    assert second["added"] == ["docs/readme.md"]
    assert again["unchanged"] == 2


def test_remove_and_rebuild(rag: Rag) -> None:
    """Removed documents are gone from answers; rebuilding changes none."""
    write_documents(rag.folder / "docs")
    rag("ingest", "docs")

    removed = rag("remove", "manual.html", "--json").json
    rebuilt = rag("rebuild", "--json").json

    assert removed == {"removed": ["manual.html"]}
    assert rebuilt["documents"] == len(DOCUMENTS) - 1
    assert rag("remove", "manual.html").code == 2
    assert "28 days" in rag("ask", "How many days of leave?").out


def test_one_bad_file_never_stops_a_run(rag: Rag) -> None:
    """Good files are ingested, bad ones listed with their reason, and the exit code says so."""
    docs = write_documents(rag.folder / "docs")
    (docs / "broken.pdf").write_bytes(b"%PDF-1.7\ngarbage")
    (docs / "binary.md").write_bytes(bytes(range(256)) * 40)
    (docs / "empty.md").write_text("")

    result = rag("ingest", "docs", "--json")

    assert result.code == 7
    assert sorted(result.json["added"]) == sorted(DOCUMENTS)
    failed = {f["source"]: f for f in result.json["failed"]}
    assert failed.keys() == {"broken.pdf", "binary.md", "empty.md"}
    assert all(f["error"] and f["hint"] for f in failed.values())
    assert rag("ask", "How many days of leave?").code == 0


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["ingest", "nowhere"], 2, "no such file or folder"),
        (["ask", "What?"], 3, "no store"),
        (["search", "What?"], 3, "no store"),
        (["status"], 3, "no store"),
        (["ask", ""], 2, "empty"),
        (["ask", "   "], 2, "empty"),
        (["ask", "What?", "-k", "0"], 2, "-k"),
        (["nonsense"], 2, "nonsense"),
        (["batch", "none.jsonl", "-o", "a.jsonl"], 2, "cannot read none.jsonl: No such file"),
        (["ask", "What?", "--config", "none.toml"], 2, "none.toml"),
        (["ask", "What?", "--store", "postgresql://host/db"], 2, "folder"),
        (["eval", "run", "nowhere"], 2, "nowhere"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_bad_usage(rag: Rag, arguments: list[str], code: int, words: str) -> None:
    """A clear message of at most two lines, the right exit code, and JSON where asked for."""
    result = rag(*arguments)
    as_json = rag(*arguments, "--json")

    assert (result.code, as_json.code) == (code, code)
    assert words in result.err
    assert "Traceback" not in result.err
    assert len(result.err.strip().splitlines()) <= 2
    assert as_json.json["error"].keys() == {"type", "message", "hint"}


def test_a_group_without_a_command_shows_its_help(rag: Rag) -> None:
    """The help as it is, on standard error, with the code of bad usage."""
    for group in ([], ["config"]):
        result = rag(*group)

        assert (result.code, result.out) == (2, "")
        assert result.err.startswith("Usage: ")


def test_a_terminal_that_cannot_show_a_letter(library: Rag) -> None:
    """What it cannot show is escaped; JSON is UTF-8 all the same."""
    ascii_only = {"PYTHONIOENCODING": "ascii"}

    assert r"b\xfcro.md" in library("list", environment=ascii_only).out
    assert "büro.md" in library("list", "--json", environment=ascii_only).out


def test_an_ingest_on_a_terminal_that_finds_nothing_to_do(library: Rag) -> None:
    """The progress bar of a run that ends before its first step breaks nothing."""
    controller, terminal = pty.openpty()
    done = subprocess.run(
        [*library.command, "ingest", "docs"],
        cwd=library.folder,
        env=clean_environment(library.home) | {"TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=terminal,
        text=True,
        check=False,
    )
    os.close(terminal)
    os.close(controller)

    assert (done.returncode, f"{len(DOCUMENTS)} unchanged" in done.stdout) == (0, True)


def test_an_empty_folder_is_said_and_loses_nothing(rag: Rag) -> None:
    """Nothing to ingest is a note; a root that became empty keeps its documents until told."""
    empty = rag.folder / "empty"
    empty.mkdir()

    first = rag("ingest", "empty")
    docs = write_documents(rag.folder / "docs", {"a.md": "# A\n\nAlpha is the first letter.\n"})
    rag("ingest", "docs")
    (docs / "a.md").unlink()
    kept = rag("ingest", "docs", "--json")
    pruned = rag("ingest", "docs", "--prune", "--json")

    assert (first.code, "no files" in first.err) == (0, True)
    assert (kept.json["removed"], "--prune" in kept.err) == ([], True)
    assert pruned.json["removed"] == ["a.md"]


def test_a_store_of_another_format_is_refused(rag: Rag) -> None:
    """A newer or older store is named as such, never misread."""
    write_documents(rag.folder / "docs", {"a.md": "# A\n\nAlpha is the first letter.\n"})
    rag("ingest", "docs")
    with sqlite3.connect(rag.folder / ".rag" / "store.sqlite3") as connection:
        write_meta(connection, replace(read_meta(connection, rag.folder), format=99))
    connection.close()

    for arguments in (["ask", "What is alpha?"], ["ingest", "docs"], ["status"]):
        result = rag(*arguments)
        assert (result.code, "format 99" in result.err) == (3, True)


def test_a_model_that_only_a_store_names_is_not_loaded(rag: Rag) -> None:
    """Neither fetched nor searched for; who trusts it is told what to set."""
    write_documents(rag.folder / "docs", {"a.md": "# A\n\nAlpha is the first letter.\n"})
    rag("ingest", "docs")
    with sqlite3.connect(rag.folder / ".rag" / "store.sqlite3") as connection:
        meta = read_meta(connection, rag.folder)
        write_meta(connection, replace(meta, settings=replace(meta.settings, model="a/stranger")))
    connection.close()
    (rag.folder / "rag.toml").write_text('[embedding]\nmodel = "a/stranger"\n')

    for arguments in (["ask", "What is alpha?"], ["search", "alpha"], ["ingest", "docs"]):
        result = rag(*arguments)
        assert (result.code, "RAG_EMBEDDING_MODEL=a/stranger" in result.err) == (2, True)
    (rag.folder / "rag.toml").unlink()
    assert "brought over to model all-MiniLM-L6-v2" in rag("ingest", "docs").err


FULL = """
(mount -t tmpfs -o size=8m none {disk} && cp -r .rag/. {disk}) || exit 77
cat /dev/zero >{disk}/rest
for command in "ingest docs" "search alpha" "show a.md"; do
    {rag} $command --store {disk}; echo "exit $?"
done
"""


def test_a_full_disk_still_answers(rag: Rag) -> None:
    """Not a byte is left, not even for the journal that a reader of the database shares."""
    write_documents(rag.folder / "docs", {"a.md": "# A\n\nAlpha is the first letter.\n"})
    rag("ingest", "docs")
    write_documents(rag.folder / "docs", {"b.md": "# B\n\nBeta is the second letter.\n"})
    disk = rag.folder / "disk"
    disk.mkdir()
    script = FULL.format(disk=disk, rag=shlex.join(rag.command))
    if not shutil.which("unshare"):
        pytest.skip("no way to make a small disk: there is no `unshare`")

    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script],
        cwd=rag.folder,
        env=clean_environment(rag.home),
        capture_output=True,
        text=True,
        check=False,
    )

    if "exit" not in done.stdout:
        pytest.skip(f"no way to make a small disk: {done.stderr}")
    codes = [line for line in done.stdout.splitlines() if line.startswith("exit")]
    assert codes == ["exit 3", "exit 0", "exit 0"]
    assert "the disk is full" in done.stderr
    assert done.stdout.count("Alpha is the first letter") == 2


def test_other_chunk_settings_bring_the_store_over(rag: Rag) -> None:
    """Chunks of two sizes are never mixed in one store; what is done is said."""
    sentences = " ".join(f"Sentence {n} says that item {n} is blue." for n in range(40))
    write_documents(rag.folder / "docs", {"a.md": f"# A\n\n{sentences}\n"})
    before = rag("ingest", "docs", "--json").json

    result = rag("ingest", "docs", environment={"RAG_INGEST_CHUNK_TOKENS": "100"})
    after = rag("status", "--json").json

    assert (result.code, "chunk_tokens 100 (was 220)" in result.err) == (0, True)
    assert after["chunks"] > before["chunks"]


def test_a_dry_run_lists_what_it_would_do(rag: Rag) -> None:
    """Each document on its line; nothing is written, not even a store."""
    write_documents(rag.folder / "docs", {"a.md": "Words.", "b.bin": "no loader"})

    result = rag("ingest", "docs", "--dry-run", "-v")

    assert result.out.splitlines()[1:] == [
        "  add: a.md",
        "  skipped: b.bin: unsupported type (save it in a format of the README's table, as PDF or "
        "text)",
    ]
    assert rag("status").code == 3


def test_watching_follows_changes_until_an_interrupt(rag: Rag) -> None:
    """Each burst of changes is a run of its own with a report of its own."""
    docs = write_documents(rag.folder / "docs", {"a.md": "First words."})
    with subprocess.Popen(
        [*rag.command, "ingest", "docs", "--watch", "--json"],
        cwd=rag.folder,
        env=clean_environment(rag.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdout
        assert child.stderr
        first = json.loads(child.stdout.readline())
        assert "watching" in child.stderr.readline()
        time.sleep(1)  # until the watch is set up there is nothing that tells of it
        write_documents(docs, {"sub/b.md": "Second words."})
        second = json.loads(child.stdout.readline())
        (docs / "a.md").unlink()
        third = json.loads(child.stdout.readline())
        child.send_signal(signal.SIGINT)
        code = child.wait(timeout=10)

    assert (first["added"], second["added"]) == (["a.md"], ["sub/b.md"])
    assert (third["removed"], code) == (["a.md"], 130)


def test_head_closes_quietly(library: Rag) -> None:
    """A reader that has had enough is no error."""
    command = " ".join(f"'{part}'" for part in library.command)
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command} show handbook/leave.md | head -c 1"],
        cwd=library.folder,
        env=clean_environment(library.home),
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == ("#", "")


@pytest.mark.parametrize("name", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_ends_with_130(rag: Rag, name: signal.Signals) -> None:
    """SIGINT and SIGTERM stop an ingest at once, and the next run finishes it."""
    text = "\n\n".join(
        f"Paragraph {i} speaks of item {i} and of {i * i} others." for i in range(900)
    )
    write_documents(rag.folder / "docs", {f"{i}.md": f"# Part {i}\n\n{text}" for i in range(4)})
    child = subprocess.Popen(
        [*rag.command, "ingest", "docs"],
        cwd=rag.folder,
        env=clean_environment(rag.home),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    while not (rag.folder / ".rag").exists():
        assert child.poll() is None
    child.send_signal(name)
    _, err = child.communicate(timeout=30)

    assert (child.returncode, b"Traceback" in err) == (130, False)


def test_every_command_has_help(library: Rag) -> None:
    """--help works for each command and names its options."""
    commands = [
        "ingest", "ask", "search", "status", "list", "show", "remove", "rebuild", "doctor",
    ]  # fmt: skip

    overview = library("--help").out

    for name in commands:
        assert name in overview
        assert "--store" in library(name, "--help").out
    assert library("config", "show", "--help").code == 0
    assert library("eval", "run", "--help").code == 0


def test_version(library: Rag) -> None:
    """--version prints the distribution's version."""
    from importlib.metadata import version

    assert library("--version").out.strip() == version("ragcite")


def test_config_show_names_origins(library: Rag) -> None:
    """Each setting is listed with where it comes from."""
    shown = library("config", "show", "--json", environment={"RAG_RETRIEVAL_K": "3"}).json

    assert shown["retrieval.k"] == {"value": 3, "origin": "environment"}
    assert shown["retrieval.alpha"]["origin"] == "default"


def test_doctor_finds_a_sound_installation(library: Rag) -> None:
    """All checks pass on a fresh store, and a chat API that is not there is found out."""
    sound = library("doctor", "--json")
    unreachable = library("doctor", environment={"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"})

    assert (sound.code, all(c["ok"] for c in sound.json["checks"])) == (0, True)
    assert (unreachable.code, "FAIL chat API" in unreachable.out) == (1, True)


def test_asking_loads_no_heavy_library(library: Rag) -> None:
    """An extractive answer needs neither torch nor Chroma nor an HTTP client."""
    code = (
        "import sys, json; sys.argv = ['rag', 'ask', '--json', 'How many days of leave?']\n"
        "from rag.cli import main\n"
        "try:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
        "heavy = ('torch', 'chromadb', 'transformers', 'httpx', 'tiktoken', 'pypdf', 'rich')\n"
        "print(json.dumps([code, [m for m in heavy if m in sys.modules]]))"
    )

    done = subprocess.run(
        [library.command[0], "-P", "-c", code],
        cwd=library.folder,
        env=clean_environment(library.home),
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )

    assert json.loads(done.stdout.splitlines()[-1]) == [0, []]


def test_names_from_files_are_escaped(rag: Rag) -> None:
    """A file name cannot write to the terminal."""
    write_documents(rag.folder / "docs", {"a\x1b[31m.md": "# A\n\nAlpha is the first letter.\n"})
    rag("ingest", "docs")

    listed = rag("list").out

    assert "\x1b" not in listed
    assert "\\x1b" in listed


def test_the_api_key_never_shows(library: Rag) -> None:
    """No output holds the key, not even with a traceback."""
    environment = {"OPENAI_API_KEY": "sk-very-secret", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}

    results = [
        library("ask", "How many days of leave?", "-v", environment=environment),
        library("config", "show", environment=environment),
        library("doctor", environment=environment),
    ]

    assert results[0].code == 5
    assert not any("sk-very-secret" in r.out + r.err for r in results)


def test_a_failed_chat_call_shows_the_passages(library: Rag) -> None:
    """With the API down, what was found is still shown, with the error and its exit code."""
    environment = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}

    text = library("ask", "How many days of paid leave?", environment=environment)
    as_json = library("ask", "How many days of paid leave?", "--json", environment=environment)
    fallback = library(
        "ask",
        "How many days of paid leave?",
        "--json",
        environment=environment | {"RAG_CHAT_FALLBACK": "true"},
    )

    assert (text.code, "28 days" in text.out, "127.0.0.1:9" in text.err) == (5, True, True)
    assert (as_json.code, as_json.json["status"]) == (5, "failed")
    assert as_json.json["error"]["hint"]
    assert (fallback.code, fallback.json["answerer"]) == (0, "extractive")
    assert fallback.json["warnings"]


def test_documents_fixture_is_ingested_whole(library: Rag) -> None:
    """The shared collection is what the tests think it is."""
    assert Path(library.folder, "docs").is_dir()
    assert library("status", "--json").json["embedding_model"] == "all-MiniLM-L6-v2"
