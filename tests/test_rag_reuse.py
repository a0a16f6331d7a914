"""The same question is asked once: kept replies, and replies shared on their way."""

import sqlite3
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from threading import Event

import pytest
from chat_api import serving
from command import Rag, write_documents
from killed import ended, start

from eval.benchmarks.hashes import HashEmbedder
from ingest.filters import parse_filters
from ingest.sync import sync
from rag.app import open_app, sync_settings
from rag.chat.cancel import Cancellation
from rag.chat.client import ChatOptions
from rag.chat.replies import KeptReplies
from rag.chat.reuse import ReusingChat
from rag.context import Question
from rag.errors import ChatError, ChatIncomplete
from rag.settings.config import load_settings
from rag.types import ChatDelta, Message, Usage

QUESTION = "How many days of paid leave does an employee have?"
ANSWER = "Every employee has 28 days of paid leave a year."
SYSTEM = Message("system", "Answer from the passages.")
END = ChatDelta("", "stop", Usage(100, 10), "dated-name")
OPTIONS = ChatOptions()


def prompt(question: str = "How many days?", fence: str = "") -> list[Message]:
    return [SYSTEM, Message("user", f"<passage-{fence}>28 days</passage-{fence}>\n{question}")]


class Model:
    """Says these pieces, and counts its calls; `gate` is waited for before each piece."""

    name = "scripted"

    def __init__(self, *pieces: str | ChatDelta | ChatError, gate: Callable[[], object] = int):
        self.pieces = pieces or ("28 ", "days.", END)
        self.calls = 0
        self.closed = 0
        self._gate = gate

    def stream(self, messages, options=OPTIONS):
        self.calls += 1
        try:
            for piece in self.pieces:
                self._gate()
                if isinstance(piece, ChatError):
                    raise piece
                yield ChatDelta(piece) if isinstance(piece, str) else piece
        finally:
            self.closed += 1


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[KeptReplies]:
    """An empty file of replies."""
    with closing(KeptReplies(tmp_path / "answers.sqlite", 1_000_000)) as replies:
        yield replies


def text(deltas: Sequence[ChatDelta]) -> str:
    return "".join(delta.text for delta in deltas)


def test_a_kept_reply_costs_nothing(kept: KeptReplies) -> None:
    """The second time no call is made, and the usage says so."""
    model = Model()
    chat = ReusingChat(model, "here", kept)

    first, second = list(chat.stream(prompt())), list(chat.stream(prompt()))

    assert (text(first), text(second), model.calls) == ("28 days.", "28 days.", 1)
    assert first[-1] == END
    assert second[-1] == replace(END, usage=Usage(100, 10, cost_usd=0.0, cached=True))


def test_the_fence_is_no_part_of_what_is_asked(kept: KeptReplies) -> None:
    """Two prompts that differ in their random delimiter, or in their time limit, are the same."""
    model = Model()
    chat = ReusingChat(model, "here", kept)

    for fence, seconds in (("481516234200", 10), ("000000000001", 20)):
        options = ChatOptions(fence=fence, deadline_s=seconds)
        assert text(list(chat.stream(prompt(fence=fence), options))) == "28 days."

    assert model.calls == 1


@pytest.mark.parametrize(
    ("place", "messages", "options"),
    [
        ("there", prompt(), OPTIONS),
        ("here", prompt("How many weeks?"), OPTIONS),
        ("here", [*prompt(), Message("assistant", "")], OPTIONS),
        ("here", prompt(), ChatOptions(temperature=0.5)),
        ("here", prompt(), ChatOptions(max_tokens=5)),
        ("here", prompt(fence="123"), OPTIONS),
        ("here", prompt(fence="\0"), ChatOptions(fence="123")),
    ],
)
def test_another_request_is_asked(kept: KeptReplies, place, messages, options) -> None:
    """Another server, message or parameter is another request."""
    model = Model()
    list(ReusingChat(model, "here", kept).stream(prompt(fence="123"), ChatOptions(fence="123")))

    list(ReusingChat(model, place, kept).stream(messages, options))

    assert model.calls == 2


@pytest.mark.parametrize(
    "pieces",
    [
        ("28 ", ChatDelta("", "length")),
        ("28 ", ChatIncomplete("broke off")),
        (ChatDelta(notice="another model answers"), "28 days.", END),
    ],
)
def test_what_is_not_whole_or_not_its_own_is_asked_again(kept: KeptReplies, pieces) -> None:
    """Cut, broken and stand-in replies are not kept."""
    model = Model(*pieces)
    chat = ReusingChat(model, "here", kept)

    for _ in range(2):
        with suppress(ChatIncomplete):
            list(chat.stream(prompt()))

    assert model.calls == 2


def test_neither_question_nor_answer_can_be_read_from_the_file(tmp_path: Path) -> None:
    """What lies on disk is masked, and only its owner may open it."""
    with closing(KeptReplies(tmp_path / "answers.sqlite", 1_000_000)) as kept:
        list(ReusingChat(Model(), "here", kept).stream(prompt()))
        files = list(tmp_path.iterdir())

        assert len(files) == 3
        for path in files:
            assert not any(word in path.read_bytes() for word in (b"days", b"How many"))
            assert path.stat().st_mode & 0o077 == 0


def test_a_flipped_byte_is_a_miss(tmp_path: Path) -> None:
    """A reply is given as it was kept or not at all."""
    path = tmp_path / "answers.sqlite"
    secret = bytes(32)
    with closing(KeptReplies(path, 1_000_000)) as kept:
        kept.put(secret, "28 days")
    with closing(sqlite3.connect(path)) as connection:
        ((sealed,),) = connection.execute("SELECT sealed FROM replies")
        for place in range(len(sealed)):
            flipped = bytes(b ^ 1 if i == place else b for i, b in enumerate(sealed))
            connection.execute("UPDATE replies SET sealed = ?", (flipped,))
            connection.commit()
            with closing(KeptReplies(path, 1_000_000)) as kept:
                assert kept.get(secret) is None


@pytest.mark.parametrize(
    "damage", [b"no database at all " * 100, b"SQLite format 3\0" + b"x" * 999]
)
def test_a_damaged_file_is_made_anew(tmp_path: Path, damage: bytes) -> None:
    """Nothing is said, and the next reply is kept again."""
    path = tmp_path / "answers.sqlite"
    path.write_bytes(damage)
    with closing(KeptReplies(path, 1_000_000)) as kept:
        assert kept.get(bytes(32)) is None
        kept.put(bytes(32), "28 days")

        assert kept.get(bytes(32)) == "28 days"


def test_a_file_that_cannot_be_written_hurts_nobody(tmp_path: Path) -> None:
    """The question is asked each time."""
    model = Model()
    with closing(KeptReplies(tmp_path / "none" / "answers.sqlite", 1_000_000)) as kept:
        chat = ReusingChat(model, "here", kept)

        assert [text(list(chat.stream(prompt()))) for _ in range(2)] == ["28 days."] * 2
        assert model.calls == 2


def test_the_file_is_bounded_and_forgets_what_is_not_used(tmp_path: Path) -> None:
    """The size stays near its limit; what is asked now and then outlives what is not."""
    path = tmp_path / "answers.sqlite"
    secrets = (n.to_bytes(32, "big") for n in count(1))
    often = bytes(32)
    with closing(KeptReplies(path, 200_000)) as kept:
        kept.put(often, "often")
        oldest = next(secrets)
        kept.put(oldest, "x" * 1000)
        for secret in (next(secrets) for _ in range(500)):
            kept.put(secret, "x" * 1000)
            assert kept.get(often) == "often"

        assert kept.get(oldest) is None
    assert path.stat().st_size < 250_000


def keep_many(path: Path, first: int) -> None:
    """Keep a hundred replies and read each back."""
    with closing(KeptReplies(path, 10_000_000)) as kept:
        for number in range(first, first + 100):
            kept.put(number.to_bytes(32, "big"), str(number))
            assert kept.get(number.to_bytes(32, "big")) == str(number)


def test_two_processes_share_a_file(tmp_path: Path) -> None:
    """Both keep all that they put there."""
    path = tmp_path / "answers.sqlite"

    processes = [start(keep_many, path, first) for first in (0, 100)]

    assert [ended(process) for process in processes] == [0, 0]
    with closing(KeptReplies(path, 10_000_000)) as kept:
        assert [kept.get(n.to_bytes(32, "big")) for n in range(200)] == [*map(str, range(200))]


def test_equal_questions_in_flight_share_a_call(kept: KeptReplies) -> None:
    """Eight ask at once: one call, eight whole replies, and one of them pays."""
    go = Event()
    model = Model(gate=lambda: go.wait(30))
    chat = ReusingChat(model, "here", kept)
    with ThreadPoolExecutor(8) as pool:
        replies = [pool.submit(lambda: list(chat.stream(prompt()))) for _ in range(8)]
        go.set()
        found = [reply.result(30) for reply in replies]

    assert {text(reply) for reply in found} == {"28 days."}
    assert model.calls == 1
    assert sum(not reply[-1].usage.cached for reply in found) == 1


def test_who_leaves_does_not_end_it_for_the_others(kept: KeptReplies) -> None:
    """The first reader goes after a piece; the second gets the whole reply, of one call."""
    model = Model()
    chat = ReusingChat(model, "here", kept)
    first, second = chat.stream(prompt()), chat.stream(prompt())
    assert (next(first).text, next(second).text) == ("28 ", "28 ")

    first.close()

    assert text(list(second)) == "days."
    assert (model.calls, model.closed) == (1, 1)


def test_who_calls_it_off_does_not_for_the_others(kept: KeptReplies) -> None:
    """A reader's cancellation reaches the model once all who wait have called it off."""
    seen: list[Cancellation] = []

    class Cancellable(Model):
        def stream(self, messages, options=OPTIONS):
            seen.append(options.cancellation)
            return super().stream(messages, options)

    chat = ReusingChat(Cancellable(), "here", kept)
    wishes = [Cancellation(), Cancellation()]
    readers = [chat.stream(prompt(), ChatOptions(cancellation=wish)) for wish in wishes]
    for reader in readers:
        next(reader)

    wishes[0].cancel()
    assert [each.wished for each in seen] == [False]
    wishes[1].cancel()
    assert [each.wished for each in seen] == [True]


def test_the_last_who_leaves_frees_the_upstream(kept: KeptReplies) -> None:
    """Nobody waits for it any more: the call ends, and nothing of it is kept."""
    model = Model()
    chat = ReusingChat(model, "here", kept)
    readers = [chat.stream(prompt()) for _ in range(2)]
    for reader in readers:
        next(reader)

    readers[0].close()
    assert model.closed == 0
    readers[1].close()

    assert model.closed == 1
    assert (text(list(chat.stream(prompt()))), model.calls) == ("28 days.", 2)


def test_a_failure_goes_to_all_who_wait(kept: KeptReplies) -> None:
    """And not to who asks afterwards."""
    model = Model("28 ", ChatIncomplete("broke off"))
    chat = ReusingChat(model, "here", kept)
    first, second = chat.stream(prompt()), chat.stream(prompt())
    for reader in (first, second):
        assert next(reader).text == "28 "
    with pytest.raises(ChatIncomplete):
        next(first)
    model.pieces = ("28 days.", END)

    third = text(list(chat.stream(prompt())))

    with pytest.raises(ChatIncomplete):
        next(second)
    assert (third, model.calls) == ("28 days.", 2)


def test_a_hit_is_fast_and_priced_at_nothing(library: Rag) -> None:
    """The answer of a kept reply says that it was cached and cost 0, although prices are known."""
    with serving(lambda question: ANSWER) as api:
        flags = {"chat.base_url": api.base_url, "chat.price_in": 1.0, "chat.price_out": 2.0}
        settings = load_settings(flags, folder=library.folder, environment={})
        with open_app(settings, library.folder / ".rag") as app:
            paid, free = app.ask(Question(QUESTION)), app.ask(Question(QUESTION))

    assert (paid.usage.cost_usd, paid.usage.cached) == (0.00012, False)
    assert (free.usage.cost_usd, free.usage.cached) == (0.0, True)
    assert paid.citations == free.citations


def test_an_edit_invalidates_the_answers_that_would_show_it(tmp_path: Path) -> None:
    """A change to a document asks again what it is shown for, and only that."""
    docs, store = write_documents(tmp_path / "docs"), tmp_path / ".rag"
    leave, travel = docs / "handbook/leave.md", docs / "handbook/travel.md"
    with serving(lambda question: ANSWER) as api:
        settings = load_settings({"chat.base_url": api.base_url}, folder=tmp_path, environment={})
        sync(store, [docs], sync_settings(settings), embedder=HashEmbedder())
        question = Question(QUESTION, parse_filters(["source=handbook/leave.md"]))
        with open_app(settings, store) as app:

            def asked() -> tuple[int, bool]:
                answer = app.ask(question)
                (cited,) = answer.citations
                text = app.store.document(cited.source).document.text
                assert text[cited.start : cited.end] == cited.quote
                return len(api.asked), answer.usage.cached

            assert (asked(), asked()) == ((1, False), (1, True))
            travel.write_text("# Travel\n\nNobody travels any more.\n", encoding="utf-8")
            sync(store, [docs], sync_settings(settings), embedder=HashEmbedder())
            assert asked() == (1, True)
            leave.write_text(f"{leave.read_text(encoding='utf-8')}\nAsk in time.\n", "utf-8")
            sync(store, [docs], sync_settings(settings), embedder=HashEmbedder())
            assert (asked(), asked()) == ((2, False), (2, True))


def test_the_cache_can_be_left_out(library: Rag) -> None:
    """A process finds what another kept, unless it is told not to."""
    with serving(lambda question: ANSWER) as api:
        flags = {"chat.base_url": api.base_url}
        settings = load_settings(flags, folder=library.folder, environment={})
        with open_app(settings, library.folder / ".rag") as app:
            app.ask(Question(QUESTION))
        here = {"OPENAI_BASE_URL": api.base_url}

        kept, anew = (
            library("ask", QUESTION, "--json", *flags, environment=here).json["usage"]
            for flags in ([], ["--no-cache"])
        )

    assert (kept["cached"], anew["cached"], len(api.asked)) == (True, False, 2)
