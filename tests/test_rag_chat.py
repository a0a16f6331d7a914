"""The chat client: replies of every shape, what is retried, and real sockets that misbehave."""

import gzip
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

import httpx
import pytest
from wire import CHUNKED, HEAD, Step, Wire, chunk, events, piece

from ingest.errors import UsageError
from rag.chat.client import ChatOptions, ChatSettings, OpenAIChat, Timing
from rag.errors import (
    ChatAuthError,
    ChatError,
    ChatIncomplete,
    ChatOverflow,
    ChatRateLimited,
    ChatRejected,
    ChatUnavailable,
)
from rag.types import ChatDelta, Message, Usage

QUESTION = [Message("system", "Answer."), Message("user", "What is it?")]
OPTIONS = ChatOptions()
KEY = "sk-test-0123456789abcdef"
HOST = "api.example.test"


ANSWER = events(piece("It is "), piece("a pen."), piece("", "stop"))
NO_DONE = events(piece("It is "), piece("a pen."), done=False)


@dataclass
class Clock:
    """Time that passes only in sleeps, and a random number of our choice."""

    time: float = 1000.0
    random: float = 1.0
    sleeps: list[float] = field(default_factory=list)

    def wait(self, _: threading.Condition, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += seconds

    @property
    def timing(self) -> Timing:
        return Timing(lambda: self.time, lambda: self.time, lambda: self.random, self.wait)


@dataclass(frozen=True)
class Canned:
    """A response that can be sent again and again."""

    content: bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


class Api:
    """A scripted API: one reply for each request, the last of them for all that follow."""

    def __init__(self, *replies: "Canned | Exception") -> None:
        self.replies = list(replies)
        self.requests: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        reply = self.replies[0] if len(self.replies) == 1 else self.replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return httpx.Response(reply.status, headers=reply.headers, content=iter([reply.content]))

    @property
    def bodies(self) -> list[dict[str, object]]:
        return [json.loads(request.content) for request in self.requests]


def client(
    api: Callable[[httpx.Request], httpx.Response], clock: Clock | None = None
) -> OpenAIChat:
    settings = ChatSettings(f"https://{HOST}/v1", KEY, "m-1")
    return OpenAIChat(settings, httpx.MockTransport(api), (clock or Clock()).timing)


def ask(api: Api, options: ChatOptions = OPTIONS, clock: Clock | None = None) -> list[ChatDelta]:
    with client(api, clock) as chat:
        return list(chat.stream(QUESTION, options))


def text(deltas: list[ChatDelta]) -> str:
    return "".join(delta.text for delta in deltas)


def reply(content: bytes | str, status: int = 200, **headers: str) -> Canned:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Canned(content.encode() if isinstance(content, str) else content, status, names)


def error(status: int, message: str = "no", **fields: object) -> Canned:
    return reply(json.dumps({"error": {"message": message, **fields}}), status)


# --- the request -------------------------------------------------------------------------------


def test_request_holds_messages_options_and_key() -> None:
    """What is asked for is what is sent, and the key stands in its header alone."""
    api = Api(reply(ANSWER))

    ask(api, ChatOptions(0.5, 99, stop=("END",), seed=7))

    request = api.requests[0]
    assert f"https://{HOST}/v1/chat/completions" == str(request.url)
    assert f"Bearer {KEY}" == request.headers["authorization"]
    assert api.bodies[0] == {
        "model": "m-1",
        "messages": [
            {"role": "system", "content": "Answer."},
            {"role": "user", "content": "What is it?"},
        ],
        "stream": True,
        "stream_options": {"include_usage": True},
        "temperature": 0.5,
        "max_tokens": 99,
        "stop": ["END"],
        "seed": 7,
    }


def test_request_of_a_whole_reply_leaves_out_what_is_not_set() -> None:
    """Fields without a value are not sent, for some servers refuse null."""
    api = Api(reply(ANSWER))

    ask(api, ChatOptions(None, None, stream=False))

    assert {"model", "messages", "stream"} == api.bodies[0].keys()


def test_a_schema_is_asked_for_and_left_out_where_it_is_not_known() -> None:
    """The form of structured output; an API that refuses it is asked without."""
    api = Api(error(400, "response_format is not supported"), reply(ANSWER))

    ask(api, ChatOptions(schema={"type": "object"}))

    assert api.bodies[0]["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "reply", "strict": True, "schema": {"type": "object"}},
    }
    assert "response_format" not in api.bodies[1]


def test_answers_are_capped_in_tokens() -> None:
    """No more than 4,000 tokens are ever asked for."""
    api = Api(reply(ANSWER))

    ask(api, ChatOptions(max_tokens=50_000))

    assert api.bodies[0]["max_tokens"] == 4000


def test_lone_surrogate_does_not_break_the_request() -> None:
    """A question from a badly encoded command line is sent with a replacement character."""
    api = Api(reply(ANSWER))

    with client(api) as chat:
        deltas = list(chat.stream([Message("user", "caf\udce9?")], ChatOptions()))

    assert text(deltas) == "It is a pen."
    assert api.bodies[0]["messages"] == [{"role": "user", "content": "caf??"}]


def test_no_key_sends_no_authorization() -> None:
    """A local server needs no key, and an empty one must not become a broken header."""
    api = Api(reply(ANSWER))

    with OpenAIChat(ChatSettings("http://localhost:1/v1/"), httpx.MockTransport(api)) as chat:
        list(chat.stream(QUESTION, OPTIONS))

    assert "authorization" not in api.requests[0].headers
    assert api.requests[0].url.path == "/v1/chat/completions"


@pytest.mark.parametrize(
    "settings",
    [
        ChatSettings("localhost:8080/v1"),
        ChatSettings("ftp://host/v1"),
        ChatSettings("http://host:port/v1"),
        ChatSettings("https://host/v1", "sk-0123\n456789abc"),
        ChatSettings("https://host/v1", "schlüssel-0123"),
    ],
    ids=["no scheme", "other scheme", "bad port", "line break in the key", "key beyond ASCII"],
)
def test_unusable_settings_are_refused_before_any_request(settings: ChatSettings) -> None:
    """A wrong address or key is a usage error that says what to set, without showing the key."""
    with pytest.raises(UsageError) as caught:
        OpenAIChat(settings)

    assert "OPENAI_" in caught.value.hint
    assert not settings.api_key or settings.api_key not in repr(caught.value)


def test_key_is_not_in_any_repr() -> None:
    """Neither settings nor client show the key when a crash report prints them."""
    with client(Api(reply(ANSWER))) as chat:
        shown = repr(ChatSettings(api_key=KEY)) + repr(chat) + repr(vars(chat))

    assert KEY not in shown


# --- replies -----------------------------------------------------------------------------------


def test_stream_yields_text_and_then_how_it_ended() -> None:
    """Text comes as it comes; the last delta alone has reason, usage and model."""
    usage = {
        "model": "m-1-2024",
        "choices": [],
        "usage": {"prompt_tokens": 9, "completion_tokens": 4},
    }

    deltas = ask(Api(reply(events(piece("It is "), piece("a pen.", "stop"), usage))))

    assert [
        ChatDelta("It is "),
        ChatDelta("a pen."),
        ChatDelta("", "stop", Usage(9, 4), "m-1-2024"),
    ] == deltas


WHOLE = {
    "model": "m-1",
    "choices": [{"message": {"content": "It is a pen."}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 9, "completion_tokens": 4},
}
PARTS = [
    {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
    {"type": "text", "text": "It is "},
    {"type": "text", "text": "a pen."},
]
ODDITIES = {
    "first content null": events(
        piece(None, role="assistant", content=None), piece("It is a pen.", "stop")
    ),
    "content missing": events(piece(), piece("It is a pen."), piece(None, "stop")),
    "list of parts": events(piece(PARTS, "stop")),
    "no choices": events({"choices": []}, {}, piece("It is a pen.", "stop"), {"choices": None}),
    "finish without done": events(piece("It is a pen.", "stop"), done=False),
    "done without finish": events(piece("It is a pen.")),
    "no blank line at the end": events(piece("It is a pen.")).rstrip(),
    "CRLF": ANSWER.replace(b"\n", b"\r\n"),
    "no space": ANSWER.replace(b"data: ", b"data:"),
    "comments and empty data": b": ping\n\ndata:\n\n" + ANSWER + b": ping\n\n",
    "data on two lines": b'data: {"choices": [{"finish_reason": "stop",\n'
    b'data: "delta": {"content": "It is a pen."}}]}\n\n',
    "null error": events({**piece("It is a pen.", "stop"), "error": None}),
    "message in a chunk": events(WHOLE),
    "plain JSON": json.dumps(WHOLE, indent=1).encode(),
    "plain JSON after white space": b"\xef\xbb\xbf\r\n " + json.dumps(WHOLE).encode(),
    "thinking": events(
        *(piece(t) for t in ["<th", "ink>I wonder", " <b", "</thi", "nk>\n\n", "It is a pen."])
    ),
    "reasoning apart": events(
        piece(None, reasoning_content="hm"), piece(None, reasoning="hm"), piece("It is a pen.")
    ),
    "thinking within": events(*map(piece, ["It is <thinking>I wonder</thinking>", "a pen."])),
    "thinking opened by the template": json.dumps(
        {"choices": [{"message": {"content": "I wonder\n</think>\nIt is a pen."}}]}
    ).encode(),
}


@pytest.mark.parametrize("body", ODDITIES.values(), ids=ODDITIES.keys())
@pytest.mark.parametrize("stream", [True, False], ids=["stream", "whole"])
@pytest.mark.parametrize("kind", ["text/event-stream", "application/json"])
def test_answer_comes_through_every_body(body: bytes, stream: bool, kind: str) -> None:
    """Whatever was asked for and whatever the body is called, the answer is the same."""
    deltas = ask(Api(reply(body, content_type=kind)), ChatOptions(stream=stream))

    assert text(deltas) == "It is a pen."
    assert deltas[-1].finish_reason == "stop"


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_answer_does_not_depend_on_packets(size: int) -> None:
    """Characters, tags and events cut in two by packets come out whole."""
    body = events(piece("<think>naïve</think>Ein Füller: 🖋"), piece("", "stop"))

    def api(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=(body[i : i + size] for i in range(0, len(body), size)))

    with client(api) as chat:
        assert text(list(chat.stream(QUESTION, OPTIONS))) == "Ein Füller: 🖋"


@pytest.mark.parametrize(
    "mentioned",
    ["Use <think> to begin.", "a < b and b <t", "Write <thin paper>"],
    ids=["tag never closed", "end that looks like a tag", "begin that looks like a tag"],
)
def test_text_that_only_looks_like_reasoning_is_kept(mentioned: str) -> None:
    """An answer may speak of tags."""
    assert mentioned == text(ask(Api(reply(events(*map(piece, mentioned))))))


def test_reasoning_shown_as_answer_is_taken_back() -> None:
    """A closing tag after shown text means that all of it was reasoning: no partial is kept."""
    body = events(piece("I wonder"), piece("</think>It is a pen.", "stop"))

    with pytest.raises(ChatRejected, match="reasoning") as caught:
        ask(Api(reply(body)))

    assert "--no-stream" in caught.value.hint


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ([{"prompt_tokens": 1, "completion_tokens": 2}, None], Usage(1, 2)),
        (
            [
                {"prompt_tokens": 1, "completion_tokens": 1},
                {"prompt_tokens": 1, "completion_tokens": 3},
            ],
            Usage(1, 3),
        ),
        ([None, None], None),
        ([{"prompt_tokens": None, "completion_tokens": 2}, {}], None),
        ([{"prompt_tokens": "1", "completion_tokens": True}, []], None),
    ],
    ids=["early", "in every chunk", "none", "null counts", "not numbers"],
)
def test_usage_from_wherever_it_comes(usage: list[object], expected: Usage | None) -> None:
    """The last usable usage counts; without one the caller has to estimate."""
    chunks = [{**piece(str(i)), "usage": value} for i, value in enumerate(usage)]

    assert expected == ask(Api(reply(events(*chunks))))[-1].usage


def test_answer_cut_by_its_limit_says_so() -> None:
    """The last delta of an answer that ran into max_tokens carries "length"."""
    assert ask(Api(reply(events(piece("It is", "length")))))[-1].finish_reason == "length"


@pytest.mark.parametrize("whole", [False, True], ids=["stream", "whole"])
def test_answers_are_capped_in_bytes(whole: bool) -> None:
    """A model that does not stop is cut at 64 KB of whole characters, and marked as cut."""
    if whole:
        body = json.dumps({"choices": [{"message": {"content": "ü" * 99_999}}]}).encode()
    else:
        body = events(*[piece("aüü")] * 30_000, piece("", "stop"))

    deltas = ask(Api(reply(body)))

    assert 65_533 <= len(text(deltas).encode()) <= 65_536
    assert deltas[-1].finish_reason == "length"


@pytest.mark.parametrize(
    "body",
    [b": ping\n\n" * (3 << 20), b"data: " + b"a" * (2 << 20), b" " * (17 << 20)],
    ids=["pings", "one event", "white space"],
)
def test_bodies_are_capped(body: bytes) -> None:
    """A reply without an end is given up."""
    with pytest.raises(ChatUnavailable):
        ask(Api(reply(body)))


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (gzip.compress(b": ping\n\n" * (8 << 20)), "gzip"),
        (gzip.compress(gzip.compress(ANSWER)), "gzip, gzip"),
        (ANSWER, "br"),
    ],
    ids=["bomb", "packed twice", "not asked for"],
)
def test_bodies_are_measured_unpacked(body: bytes, encoding: str) -> None:
    """Packed bodies count as what they become, and one layer of packing is all there may be."""
    with pytest.raises(ChatUnavailable, match=r"over-long|decoded"):
        ask(Api(reply(body, content_encoding=encoding)))


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (events(piece("", "stop")), "the model gave no answer"),
        (events(), "the model gave no answer"),
        (events(piece(" \n", "stop")), "the model gave no answer"),
        (b'{"choices": []}', "the model gave no answer"),
        (events(piece("<think>hm, well", "length")), "reasoning used up"),
        (events(piece("", "content_filter")), "content filter"),
        (events(piece(None, "stop", refusal="I must not.")), "it refused: I must not"),
        (events(piece(None, "tool_calls")), "the model gave no answer"),
    ],
    ids=["empty", "only done", "blank", "no choice", "reasoning", "filtered", "refused", "tool"],
)
def test_empty_success_is_an_error(body: bytes, said: str) -> None:
    """A reply without words is never an answer, and asking again would give the same."""
    api = Api(reply(body))

    with pytest.raises(ChatRejected, match=said):
        ask(api)

    assert len(api.requests) == 1


def test_filtered_midway_keeps_what_came() -> None:
    """An answer that the content filter cut off is incomplete, with its partial text."""
    with pytest.raises(ChatIncomplete, match="filter") as caught:
        ask(Api(reply(events(piece("It is"), piece("", "content_filter")))))

    assert caught.value.partial == "It is"


# --- failures and retries ----------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_passing_failures_are_tried_three_times(status: int) -> None:
    """Three tries, with full jitter under a growing bound; then the error of the last."""
    api, clock = Api(error(status)), Clock(random=0.5)

    with pytest.raises(ChatRateLimited if status == 429 else ChatUnavailable):
        ask(api, clock=clock)

    assert len(api.requests) == 3
    assert clock.sleeps == [0.25, 0.5]


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (error(400), ChatRejected),
        (error(401), ChatAuthError),
        (error(402), ChatRateLimited),
        (error(403), ChatAuthError),
        (error(404), ChatRejected),
        (error(413), ChatOverflow),
        (error(422), ChatRejected),
        (error(429, code="insufficient_quota"), ChatRateLimited),
        (error(429, type="insufficient_quota"), ChatRateLimited),
        (error(400, code="content_filter"), ChatRejected),
        (error(400, code="context_length_exceeded"), ChatOverflow),
        (error(400, type="exceed_context_size_error", code=400), ChatOverflow),
        (error(400, "This model's maximum context length is 4096 tokens."), ChatOverflow),
        (reply("", 302, location="https://elsewhere.test/"), ChatRejected),
        (reply("<!doctype html><title>Welcome</title>"), ChatRejected),
    ],
)
def test_lasting_failures_are_not_retried(answer: Canned, kind: type[ChatError]) -> None:
    """What another try cannot mend is told at once, with the host and a setting to change."""
    api, clock = Api(answer), Clock()

    with pytest.raises(ChatError) as caught:
        ask(api, clock=clock)

    assert (kind, 1, []) == (type(caught.value), len(api.requests), clock.sleeps)
    assert HOST in caught.value.message or "no answer" in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ConnectTimeout("slow"),
        httpx.ReadTimeout("slow"),
        httpx.ReadError("reset"),
        httpx.RemoteProtocolError("closed"),
        error(503),
        reply(events({"error": {"message": "overloaded", "type": "overloaded_error"}})),
        reply(events({"error": {"message": "upstream", "code": 502}})),
        reply(events({"error": "upstream"})),
        reply(b'event: error\ndata: {"message": "upstream"}\n\n'),
        reply(json.dumps({"error": {"message": "upstream", "code": "500"}})),
        reply(events(piece("", "error"))),
        reply(events(done=False)),
        reply(events(piece(None, role="assistant"), done=False)),
        reply(b'data: {"choi'),
        reply(b'{"choices": [{"mess'),
        reply(b'data: {"choices"\n\n'),
        reply(b"service ok"),
        reply(b"not gzip", content_encoding="gzip"),
    ],
)
def test_a_second_try_mends_it(failure: Canned | Exception) -> None:
    """While nothing was shown, a passing failure of any kind costs a try and nothing else."""
    api = Api(failure, reply(ANSWER))

    assert text(ask(api)) == "It is a pen."
    assert len(api.requests) == 2


@pytest.mark.parametrize(
    "rest",
    [
        b"",
        b"data: {",
        events({"error": {"message": "overloaded", "code": 529}}),
        events(piece("", "error")),
    ],
    ids=["ends", "cut event", "error inside", "finish reason error"],
)
def test_stream_is_not_retried_once_text_was_shown(rest: bytes) -> None:
    """A broken stream leaves its partial text; it is never begun again behind the reader's back."""
    api, shown = Api(reply(NO_DONE + rest)), []

    with pytest.raises(ChatIncomplete) as caught, client(api) as chat:
        shown.extend(delta.text for delta in chat.stream(QUESTION, OPTIONS))

    assert shown == ["It is ", "a pen."]
    assert caught.value.partial == "It is a pen."
    assert len(api.requests) == 1


@pytest.mark.parametrize(
    ("headers", "waited"),
    [
        ({"retry_after": "7"}, 7.0),
        ({"retry_after": "0.25"}, 0.25),
        ({"retry_after": "Thu, 01 Jan 1970 00:17:10 GMT"}, 30.0),
        ({"retry_after": "Thu, 01 Jan 1970 00:00:10 GMT"}, 0.0),
        ({"retry_after_ms": "1500", "retry_after": "60"}, 1.5),
        ({"retry_after": "-5"}, 0.0),
        ({"retry_after": "soon"}, 0.0),
        ({"retry_after": "inf"}, 0.0),
    ],
)
def test_wait_is_the_one_the_api_asks_for(headers: dict[str, str], waited: float) -> None:
    """Seconds, fractions, dates (the clock stands at 1,000 s) and milliseconds are all kept to."""
    api, clock = Api(reply("", 429, **headers), reply(ANSWER)), Clock(random=0.0)

    ask(api, clock=clock)

    assert waited == sum(clock.sleeps)


@pytest.mark.parametrize(
    ("seconds", "deadline"), [("121", 600.0), ("30", 20.0)], ids=["long", "late"]
)
def test_a_wait_that_does_not_fit_is_not_begun(seconds: str, deadline: float) -> None:
    """Longer than two minutes or than the time left: the error says when to try again."""
    api, clock = Api(reply("slow down", 429, retry_after=seconds)), Clock()

    with pytest.raises(ChatRateLimited) as caught:
        ask(api, ChatOptions(deadline_s=deadline), clock)

    assert (clock.sleeps, len(api.requests)) == ([], 1)
    assert float(seconds) == caught.value.retry_after
    assert f"try again in {seconds} s" == caught.value.hint


def test_deadline_includes_every_wait() -> None:
    """Tries and waits end with the deadline, whatever number of tries is left."""
    clock = Clock()

    def api(request: httpx.Request) -> httpx.Response:
        clock.time += 4.0
        return httpx.Response(503)

    with pytest.raises(ChatUnavailable), client(api, clock) as chat:
        list(chat.stream(QUESTION, ChatOptions(deadline_s=5.0)))

    assert clock.time < 1009.0


def test_no_time_left_sends_nothing() -> None:
    """A question whose time is spent does not reach the API."""
    api = Api(reply(ANSWER))

    with pytest.raises(ChatUnavailable, match="deadline"):
        ask(api, ChatOptions(deadline_s=0.0))

    assert api.requests == []


@pytest.mark.parametrize(
    "answer",
    [
        error(
            400,
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens'.",
            param="max_tokens",
        ),
        error(422, "max_tokens: extra inputs are not permitted"),
        reply(
            json.dumps({"detail": [{"loc": ["body", "max_tokens"], "msg": "unexpected field"}]}),
            422,
        ),
    ],
    ids=["OpenAI", "message alone", "FastAPI"],
)
def test_refused_parameter_is_dropped_once_and_for_all(answer: Canned) -> None:
    """The API is asked again without the field it refused, and so is the next question."""
    api = Api(answer, reply(ANSWER))

    with client(api) as chat:
        first = list(chat.stream(QUESTION, ChatOptions(max_tokens=9)))
        second = list(chat.stream(QUESTION, ChatOptions(max_tokens=9)))

    assert "It is a pen." == text(first) == text(second)
    assert [body.get("max_tokens") for body in api.bodies] == [9, None, None]
    assert [body.get("max_completion_tokens") for body in api.bodies] == [None, 9, 9]


def test_several_refused_parameters_are_dropped_one_by_one() -> None:
    """Each optional field can go; when none is left to drop, the refusal is told."""
    names = ["max_tokens", "temperature", "stream_options", "max_completion_tokens"]
    refusals = [error(400, f"{name} is not supported") for name in [*names, "model"]]
    api = Api(*refusals)

    with pytest.raises(ChatRejected, match="model is not supported"):
        ask(api)

    assert {"model", "messages", "stream"} == api.bodies[-1].keys()
    assert len(api.requests) == 5


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (reply(f"key {KEY} \x1b[31mis\nwrong", 401), "answered 401: key *** [31mis wrong"),
        (error(401, f"Incorrect key {KEY}x"), "answered 401: Incorrect key ***x"),
        (error(401, "Incorrect key sk-other-0123456789"), "answered 401: Incorrect key sk-***"),
        (reply("<html><title>502 Bad Gateway</title>", 401), "answered 401: 502 Bad Gateway"),
        (reply('{"error": "unauthorised"}', 401), "answered 401: unauthorised"),
        (reply('[{"error": {"message": "bad key"}}]', 401), "answered 401: bad key"),
        (reply('{"detail": "bad key"}', 401), "answered 401: bad key"),
        (reply(b"\xff\xfe", 401), "answered 401: \ufffd\ufffd"),
        (reply("", 401), "answered 401"),
        (reply("x" * 99_999, 401), "answered 401: " + "x" * 299 + "…"),
    ],
)
def test_error_bodies_become_one_clean_line(answer: Canned, said: str) -> None:
    """Any body is told in short, without the key and without control characters."""
    with pytest.raises(ChatAuthError) as caught:
        ask(Api(answer))

    assert f"{HOST} {said}" == caught.value.message


def test_key_does_not_follow_a_redirect() -> None:
    """A redirect ends the question: no second request is made, to no other host."""
    api = Api(reply("", 307, location="https://elsewhere.test/v1/chat/completions"))

    with pytest.raises(ChatRejected, match="307"):
        ask(api)

    assert [request.url.host for request in api.requests] == [HOST]


WHOLE_REPLY = CHUNKED + chunk(ANSWER) + b"0\r\n\r\n"

# --- real sockets ------------------------------------------------------------------------------


@contextmanager
def served(*scripts: list[Step], **settings: float) -> Iterator[tuple[Wire, OpenAIChat]]:
    wire = Wire(*scripts)
    timing = Timing(random=lambda: 0.0)
    with (
        closing(wire.listener),
        OpenAIChat(ChatSettings(wire.url, **settings), None, timing) as chat,
    ):
        yield wire, chat


def test_connection_is_used_again() -> None:
    """Two questions, one connection: the end of a stream is read to its last byte."""
    with served([WHOLE_REPLY], [WHOLE_REPLY]) as (wire, chat):
        texts = [text(list(chat.stream(QUESTION, OPTIONS))) for _ in range(2)]

    assert texts == ["It is a pen."] * 2
    assert (wire.connections, wire.requests) == (1, 2)


def test_characters_split_over_packets_on_the_wire() -> None:
    """Bytes sent one by one with pauses come out as the same text."""
    body = chunk(events(piece("🖋ü", "stop")).replace(b"\\ud83d\\udd8b\\u00fc", "🖋ü".encode()))
    at = body.index("🖋".encode())
    with served([CHUNKED, body[: at + 2], 0.05, body[at + 2 :], b"0\r\n\r\n"]) as (_, chat):
        assert text(list(chat.stream(QUESTION, OPTIONS))) == "🖋ü"


@pytest.mark.parametrize("step", ["close", "reset"])
def test_disconnect_before_the_reply_is_retried(step: str) -> None:
    """A server that hangs up without a word is asked again."""
    with served([step], [WHOLE_REPLY]) as (wire, chat):
        assert text(list(chat.stream(QUESTION, OPTIONS))) == "It is a pen."

    assert wire.requests == 2


def test_stale_connection_costs_no_try() -> None:
    """A kept connection that the server has dropped meanwhile is replaced, even at one try."""
    with served([WHOLE_REPLY], ["close"], [WHOLE_REPLY], attempts=1) as (wire, chat):
        for _ in range(2):
            assert text(list(chat.stream(QUESTION, OPTIONS))) == "It is a pen."

    assert (wire.connections, wire.requests) == (2, 3)


def test_fresh_connection_that_breaks_costs_a_try() -> None:
    """Only a reused connection is replaced for nothing."""
    with (
        served(["close"], [WHOLE_REPLY], attempts=1) as (wire, chat),
        pytest.raises(ChatUnavailable),
    ):
        list(chat.stream(QUESTION, OPTIONS))

    assert wire.requests == 1


@pytest.mark.parametrize(
    "script",
    [
        [CHUNKED, chunk(NO_DONE), b"0\r\n\r\n"],
        [CHUNKED, chunk(NO_DONE), "close"],
        [CHUNKED, chunk(NO_DONE)[:-9], "close"],
        [CHUNKED, chunk(NO_DONE), 0.1, "reset"],
        [HEAD + b"Content-Length: 9999\r\n\r\n", NO_DONE, "close"],
        [HEAD + b"Connection: close\r\n\r\n", NO_DONE, "close"],
        [CHUNKED, chunk(NO_DONE), "watch"],
    ],
    ids=["proper end", "cut", "cut in a chunk", "reset", "short", "until close", "stall"],
)
def test_stream_that_breaks_off_is_incomplete(script: list[Step]) -> None:
    """However the wire breaks, the partial text is kept and marked."""
    with served(script, idle_s=0.3) as (wire, chat), pytest.raises(ChatIncomplete) as caught:
        list(chat.stream(QUESTION, OPTIONS))

    assert "It is a pen."[: len(caught.value.partial)] == caught.value.partial != ""
    assert wire.requests == 1


def test_stream_that_breaks_after_its_end_is_complete() -> None:
    """A finish reason makes the answer whole, even if the connection is then cut."""
    script = [CHUNKED, chunk(events(piece("It is a pen.", "stop"), done=False)), "close"]

    with served(script) as (_, chat):
        assert text(list(chat.stream(QUESTION, OPTIONS))) == "It is a pen."


@pytest.mark.parametrize(
    "script", [["watch"], [HEAD, "watch"], [CHUNKED, "watch"]], ids=["silent", "in head", "in body"]
)
def test_first_byte_has_a_time_limit(script: list[Step]) -> None:
    """A server that says nothing is given up after the first-byte limit, and tried again."""
    with served(script, [WHOLE_REPLY], first_byte_s=0.3) as (wire, chat):
        assert text(list(chat.stream(QUESTION, OPTIONS))) == "It is a pen."

    assert wire.requests == 2
    assert wire.hung_up.wait(5)


def test_first_byte_may_take_longer_than_the_next() -> None:
    """The idle limit counts only after the first byte of the reply, not after its head."""
    script: list[Step] = [CHUNKED, 0.6, chunk(ANSWER), b"0\r\n\r\n"]

    with served(script, first_byte_s=10, idle_s=0.1, attempts=1) as (_, chat):
        assert text(list(chat.stream(QUESTION, OPTIONS))) == "It is a pen."


def test_pings_are_not_the_first_byte() -> None:
    """A server that reads a long prompt may ping as seldom as it likes within the first limit."""
    ping = chunk(b": ping\n\n")
    script: list[Step] = [CHUNKED, ping, 0.4, ping, 0.4, chunk(ANSWER), b"0\r\n\r\n"]

    with served(script, first_byte_s=10, idle_s=0.1, attempts=1) as (_, chat):
        assert text(list(chat.stream(QUESTION, OPTIONS))) == "It is a pen."


def test_whole_reply_may_take_as_long_as_the_deadline() -> None:
    """Without streaming the first byte comes with the last: the first-byte limit does not count."""
    script: list[Step] = [0.6, WHOLE_REPLY]

    with served(script, first_byte_s=0.1, attempts=1) as (_, chat):
        assert text(list(chat.stream(QUESTION, ChatOptions(stream=False)))) == "It is a pen."


def drip(data: bytes) -> list[Step]:
    """Bytes one by one, 20 a second."""
    return [step for byte in data for step in (bytes([byte]), 0.05)]


GZIPPED = gzip.compress(ANSWER)
# A gzip header may hold a file name: bytes that decompress to nothing.
NAMED_GZIP = GZIPPED[:3] + b"\x08" + GZIPPED[4:10]
REST = [chunk(ANSWER), b"0\r\n\r\n"]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        ([HEAD, *drip(b"X-Slow: " + b"x" * 60), CHUNKED[len(HEAD) - 2 :], *REST], ChatUnavailable),
        ([CHUNKED, *drip(chunk(b": ping\n\n") * 5), *REST], ChatUnavailable),
        (
            [
                HEAD + b"Connection: close\r\nContent-Encoding: gzip\r\n\r\n" + NAMED_GZIP,
                *drip(b"a" * 60),
                b"\0" + GZIPPED[10:],
                "close",
            ],
            ChatUnavailable,
        ),
        ([CHUNKED, chunk(NO_DONE), *drip(chunk(b": ping\n\n") * 5), *REST], ChatIncomplete),
        ([b"HTTP/1.1 503 Busy\r\nContent-Length: 60\r\n\r\n", *drip(b"x" * 60)], ChatUnavailable),
    ],
    ids=["head", "pings", "compressed", "after text", "error body"],
)
def test_deadline_holds_against_a_server_that_drips(
    script: list[Step], kind: type[ChatError]
) -> None:
    """Bytes that come now and then keep no question alive: the answer after them is not awaited."""
    with served(script) as (wire, chat):
        with pytest.raises(kind, match=r"deadline|503"):
            list(chat.stream(QUESTION, ChatOptions(deadline_s=1.0)))
        completed = wire.completed

    assert (completed, wire.requests) == (0, 1)


def test_hanging_up_frees_the_upstream() -> None:
    """Closing the iterator closes the connection, so that the server can stop its model."""
    with served([CHUNKED, chunk(NO_DONE), "watch"]) as (wire, chat):
        deltas = chat.stream(QUESTION, OPTIONS)
        first = next(deltas)
        deltas.close()
        freed = wire.hung_up.wait(5)

    assert (ChatDelta("It is "), True) == (first, freed)


def test_cap_on_answers_frees_the_upstream() -> None:
    """A model that does not stop is hung up on."""
    body = chunk(events(*[piece("a" * 1000)] * 70, done=False))

    with served([CHUNKED, body, "watch"]) as (wire, chat):
        deltas = list(chat.stream(QUESTION, OPTIONS))
        freed = wire.hung_up.wait(5)

    assert (deltas[-1].finish_reason, freed) == ("length", True)


def test_no_server_is_said_in_words() -> None:
    """A refused connection names host, reason and setting."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port = listener.getsockname()[1]
    timing = Timing(random=lambda: 0.0)

    with (
        pytest.raises(ChatUnavailable, match=rf"connect to 127.0.0.1:{port}: .*refused") as caught,
        OpenAIChat(ChatSettings(f"http://127.0.0.1:{port}/v1"), None, timing) as chat,
    ):
        list(chat.stream(QUESTION, OPTIONS))

    assert "chat.base_url" in caught.value.hint


def test_proxy_of_the_environment_is_for_other_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request to this machine never goes through a proxy; one to another host does."""
    body = b'{"error": {"message": "from the proxy"}}'
    proxied = b"HTTP/1.1 400 No\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
    with served([proxied]) as (proxy, _), served([WHOLE_REPLY]) as (local, _):
        for name in ("NO_PROXY", "no_proxy", "ALL_PROXY", "all_proxy", "http_proxy"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("HTTP_PROXY", proxy.url.removesuffix("/v1"))
        with OpenAIChat(ChatSettings(local.url)) as chat:
            direct = text(list(chat.stream(QUESTION, OPTIONS)))
        with (
            OpenAIChat(ChatSettings("http://remote.example.test/v1")) as chat,
            pytest.raises(ChatRejected, match="from the proxy"),
        ):
            list(chat.stream(QUESTION, OPTIONS))

    assert (direct, local.requests, proxy.requests) == ("It is a pen.", 1, 1)
