"""Named models: whose key goes where, which one answers, and who stands in when it cannot."""

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import httpx
import pytest
from wire import CHUNKED, Request, Step, Wire, chunk, events, piece, response, streamed

from ingest.errors import UsageError
from rag.app import open_chat
from rag.chat.client import ChatOptions, ChatSettings, OpenAIChat
from rag.chat.models import listed_window, tells_window
from rag.commands.ask import note_answerer
from rag.commands.console import Output
from rag.errors import ChatAuthError, ChatError, ChatIncomplete, ChatUnavailable
from rag.settings.config import ChatSection, Settings, load_settings
from rag.types import ChatDelta, Message

QUESTION = [Message("user", "Who?")]
OPTIONS = ChatOptions(deadline_s=20.0)
GOOD = [streamed(piece("A pen."), piece("", "stop"))]
Serve = Callable[[Callable[[Request], Iterable[Step]]], Wire]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts servers that answer by the request."""
    with ExitStack() as stack:

        def start(answer: Callable[[Request], Iterable[Step]]) -> Wire:
            wire = Wire(answer=answer)
            stack.enter_context(closing(wire.listener))
            return wire

        yield start


def always(*script: Step) -> Callable[[Request], Iterable[Step]]:
    return lambda _: script


def load(
    folder: Path, own: str = "", project: str = "", environment: dict[str, str] | None = None
) -> Settings:
    """Settings of a person's own rag.toml, a project's, and the environment."""
    (folder / "home" / "ragcite").mkdir(parents=True, exist_ok=True)
    (folder / "home" / "ragcite" / "rag.toml").write_text(own)
    (folder / "rag.toml").write_text(project)
    home = {"XDG_CONFIG_HOME": str(folder / "home")}
    return load_settings(folder=folder, environment=home | (environment or {}))


def table(name: str, **fields: object) -> str:
    values = (f"{key} = {value!r}" for key, value in fields.items())
    return "\n".join([f"[models.{name}]", *values, ""])


def chain(folder: Path, first: str, second: str) -> Settings:
    """One model and another that stands behind it."""
    tables = table("first", base_url=first) + table("second", base_url=second, price_in=2.0)
    return load(folder, f'[chat]\nmodel = "first"\nfallbacks = ["second"]\n{tables}')


def asked(settings: Settings, options: ChatOptions = OPTIONS) -> list[ChatDelta]:
    with closing(open_chat(settings)) as chat:
        return list(chat.stream(QUESTION, options))


# --- who stands in -----------------------------------------------------------------------------

DOWN = response({"error": {"message": "it is down"}}, 503, retry_after=300)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ([DOWN], "it is down"),
        ([response(b"slow down", 429, retry_after=300)], "slow down"),
        ([response({"error": {"message": "bad key"}}, 401)], "bad key"),
        ([response({"error": {"code": "insufficient_quota"}}, 429)], "answered 429"),
    ],
    ids=["unavailable", "rate limit", "key", "quota"],
)
def test_another_model_stands_in_and_it_is_said(
    tmp_path: Path, serve: Serve, script: list[Step], said: str
) -> None:
    """The answer is the second model's, at its price, and a notice names both and the cause."""
    first, second = serve(always(*script)), serve(always(*GOOD))

    notice, text, last = asked(chain(tmp_path, first.url, second.url))

    assert notice.notice.startswith("second was asked, for first failed: 127.0.0.1:")
    assert said in notice.notice
    assert (text.text, last.finish_reason) == ("A pen.", "stop")
    assert last.facts is not None
    assert (last.facts.name, last.facts.price_in) == ("second", 2.0)


@pytest.mark.parametrize(
    "script",
    [
        [response({"error": {"code": "context_length_exceeded"}}, 400)],
        [response({"error": {"code": "content_filter"}}, 400)],
        [streamed(piece("", "stop"))],
        [streamed(piece("A p"), {"error": {"message": "broken", "code": 500}})],
    ],
    ids=["overflow", "filter", "no answer", "text was shown"],
)
def test_what_another_model_cannot_mend_is_told(
    tmp_path: Path, serve: Serve, script: list[Step]
) -> None:
    """Neither a prompt that does not fit, nor a refusal, nor half an answer is asked again."""
    first, second = serve(always(*script)), serve(always(*GOOD))

    with pytest.raises(ChatError):
        asked(chain(tmp_path, first.url, second.url))

    assert second.asked == []


def test_when_all_fail_the_last_says_why(tmp_path: Path, serve: Serve) -> None:
    """Each step is told, and the error is that of the last model."""
    first, second = serve(always(DOWN)), serve(always(response(b"who are you", 401)))
    told = []

    with (
        closing(open_chat(chain(tmp_path, first.url, second.url))) as chat,
        pytest.raises(ChatAuthError, match="who are you"),
    ):
        told.extend(chat.stream(QUESTION, OPTIONS))

    assert [delta.notice.split(":")[0] for delta in told] == ["second was asked, for first failed"]


def test_a_silent_model_leaves_time_for_the_next(tmp_path: Path, serve: Serve) -> None:
    """Half of the deadline is for the first to begin; one that has begun keeps all of it."""
    silent, slow = serve(always("watch")), serve(always(CHUNKED, 0.8, *map(chunk, REST)))
    second = serve(always(*GOOD))
    begun = time.monotonic()

    stood_in = asked(chain(tmp_path, silent.url, second.url), ChatOptions(deadline_s=1.0))
    took = time.monotonic() - begun
    kept = asked(chain(tmp_path, slow.url, second.url), ChatOptions(deadline_s=2.0))

    assert (stood_in[0].notice != "", stood_in[1].text) == (True, "A pen.")
    assert took < 0.95
    assert [delta.notice for delta in kept] == ["", ""]


REST = [events(piece("A pen.", "stop")), b""]


# --- a small and a large one ------------------------------------------------------------------


def test_an_easy_question_goes_to_the_small_model(tmp_path: Path, serve: Serve) -> None:
    """The other way it goes to the large one, which also stands in for the small one."""
    large = serve(always(*GOOD))
    small = serve(lambda r: [DOWN] if "difficult" in r.question else GOOD)
    tables = table("s", base_url=small.url, model="small") + table(
        "l", base_url=large.url, model="large"
    )
    settings = load(tmp_path, f'[chat]\nmodel = "auto"\nsmall = "s"\nlarge = "l"\n{tables}')

    with closing(open_chat(settings)) as chat:
        for easy, question in [(True, "Who?"), (False, "Who?"), (True, "A difficult one?")]:
            options = ChatOptions(deadline_s=20.0, easy=easy)
            list(chat.stream([Message("user", question)], options))

    assert [request.body["model"] for request in small.asked] == ["small", "small"]
    assert [request.body["model"] for request in large.asked] == ["large", "large"]


# --- windows -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "window"),
    [
        ({"id": "m", "meta": {"n_ctx": 1024, "n_ctx_train": 8192}}, 1024),
        ({"id": "m", "meta": {"n_ctx_train": 8192}}, 8192),
        ({"id": "m", "max_model_len": 32768}, 32768),
        ({"id": "m", "context_length": 128000}, 128000),
        ({"id": "m", "context_window": 131072}, 131072),
        ({"id": "m", "max_context_length": 32000}, 32000),
        ({"id": "m", "context_length": "128000"}, 0),
        ({"id": "m"}, 0),
        ({"id": "other", "max_model_len": 32768}, 32768),
    ],
)
def test_a_window_is_found_in_every_listing(entry: dict[str, object], window: int) -> None:
    """Each kind of server has its own name for it; a lone model goes by any name."""
    assert listed_window({"data": [entry]}, "m") == window
    assert listed_window([entry], "m") == window


@pytest.mark.parametrize(
    "listing", [None, "", {}, {"data": None}, {"data": [1]}, [{"id": "a"}, {"id": "b"}]]
)
def test_a_listing_that_says_nothing_gives_no_window(listing: object) -> None:
    """Whatever comes back, an unknown window stays unknown."""
    assert listed_window(listing, "m") == 0


def test_an_unknown_window_is_asked_for_once(tmp_path: Path, serve: Serve) -> None:
    """Within the time there is, and not at all without any; with the key that goes there."""
    body = {"data": [{"id": "first", "max_model_len": 4096}]}
    server = serve(always(response(body)))
    settings = load(
        tmp_path, environment={"OPENAI_BASE_URL": server.url, "OPENAI_API_KEY": "sk-mine-0123"}
    )

    with closing(open_chat(settings)) as chat:
        windows = [chat.facts(seconds, False).window for seconds in (0.0, 5.0, 5.0)]

    assert windows == [0, 4096, 4096]
    assert [(request.method, request.path) for request in server.asked] == [("GET", "/v1/models")]
    assert server.asked[0].headers["authorization"] == "Bearer sk-mine-0123"


@pytest.mark.parametrize("script", [["close"], ["watch"], [response(b"no", 404)]])
def test_a_server_without_a_listing_costs_no_more_than_the_time_given(
    tmp_path: Path, serve: Serve, script: list[Step]
) -> None:
    """The window stays unknown, and the question goes on."""
    server = serve(always(*script))
    begun = time.monotonic()

    with closing(open_chat(load(tmp_path, environment={"OPENAI_BASE_URL": server.url}))) as chat:
        window = chat.facts(0.3, False).window

    assert window == 0
    assert time.monotonic() - begun < 2.0


def test_the_makers_own_apis_are_not_asked() -> None:
    """They do not tell, and what is known of them is listed."""
    assert not tells_window(ChatSection(model="gpt-99"))
    assert not tells_window(ChatSection(base_url="https://api.openai.com/v1"))
    assert tells_window(ChatSection(base_url="http://127.0.0.1:8080/v1"))


# --- Azure -------------------------------------------------------------------------------------

AZURE = "https://mine.openai.azure.com"


@pytest.mark.parametrize(
    ("base_url", "url"),
    [
        (AZURE, f"{AZURE}/openai/v1/chat/completions"),
        (f"{AZURE}/openai/v1/", f"{AZURE}/openai/v1/chat/completions"),
        (
            f"{AZURE}/openai/deployments/gpt",
            f"{AZURE}/openai/deployments/gpt/chat/completions?api-version=2024-10-21",
        ),
        (
            f"{AZURE}/openai/deployments/gpt/chat/completions?api-version=2025-01-01-preview",
            f"{AZURE}/openai/deployments/gpt/chat/completions?api-version=2025-01-01-preview",
        ),
    ],
    ids=["host alone", "v1", "deployment", "version given"],
)
def test_azure_is_known_by_its_host(base_url: str, url: str) -> None:
    """The key goes in the header that Azure reads, and a deployment gets its version."""
    requests: list[httpx.Request] = []

    def api(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        body = {"choices": [{"message": {"content": "A pen."}, "finish_reason": "stop"}]}
        return httpx.Response(200, json=body)

    settings = ChatSettings(base_url, "azure-key-0123", "gpt")
    with OpenAIChat(settings, httpx.MockTransport(api)) as chat:
        list(chat.stream(QUESTION, OPTIONS))

    assert str(requests[0].url) == url
    assert requests[0].headers["api-key"] == "azure-key-0123"
    assert "authorization" not in requests[0].headers


# --- whose key goes where ----------------------------------------------------------------------

KEYS = {"OPENAI_API_KEY": "sk-mine", "OTHER_KEY": "sk-other"}
NAMED = table("big", base_url="http://big/v1", api_key_env="OTHER_KEY", model="big-1", window=99)


def test_a_named_model_brings_its_own_place_and_key(tmp_path: Path) -> None:
    """Base URL, key, window and name are the table's; the rest is that of [chat]."""
    own = f'[chat]\nmodel = "big"\nmax_tokens = 7\n{NAMED}'

    chat = load(tmp_path, own, environment=KEYS).chat

    assert (chat.base_url, chat.api_key, chat.model) == ("http://big/v1", "sk-other", "big-1")
    assert (chat.window, chat.max_tokens, chat.concurrency) == (99, 7, 8)


def test_a_project_names_no_variable_that_is_sent(
    tmp_path: Path, serve: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """A variable of the environment stays here where only a project's file asks for it."""
    theirs = serve(always(*GOOD))
    project = table("big", base_url=theirs.url, api_key_env="OTHER_KEY")
    settings = load(tmp_path, project=f'[chat]\nmodel = "big"\n{project}', environment=KEYS)

    asked(settings)
    note_answerer(settings, Output(as_json=False, quiet=False), extractive=False)

    assert (settings.chat.base_url, settings.chat.api_key) == (theirs.url, "")
    assert "authorization" not in theirs.asked[0].headers
    assert f"the key is not sent to {theirs.url}, which a project" in capsys.readouterr().err


def test_a_persons_key_goes_only_to_its_own_base_url(tmp_path: Path) -> None:
    """A named model elsewhere gets none of it; one at the same address does."""
    elsewhere = table("there", base_url="http://elsewhere/v1") + table("here", model="gpt-4o")
    settings = load(
        tmp_path, f'[chat]\nfallbacks = ["there", "here"]\n{elsewhere}', environment=KEYS
    )

    assert [chat.api_key for chat in settings.fallbacks] == ["", "sk-mine"]
    assert [chat.base_url for chat in settings.fallbacks] == ["http://elsewhere/v1", ""]


def test_a_project_cannot_put_its_address_to_a_persons_key(tmp_path: Path) -> None:
    """A table is taken whole: the same name in a project's file has nothing of the person's own.

    Nor does a base URL of the project's reach a named model that has none.
    """
    own = table("big", base_url="http://mine/v1", api_key="sk-own") + table("plain", model="x")
    theirs = '[chat]\nbase_url = "http://theirs/v1"\nfallbacks = ["big", "plain"]\n'

    settings = load(
        tmp_path, own, theirs + table("big", base_url="http://theirs/v1"), environment=KEYS
    )

    assert settings.key_withheld
    assert [(chat.base_url, chat.api_key) for chat in settings.fallbacks] == [
        ("http://theirs/v1", ""),
        ("http://theirs/v1", ""),
    ]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (table("big", api_key="sk-1"), "no base_url"),
        (table("big", base_url="http://a/v1", modell="x"), "modell"),
        (table("big", base_url="http://a/v1", rpm="many"), "many"),
        ("[models]\nbig = 1\n", "models.big"),
        ('[chat]\nfallbacks = ["none"]\n', "no model is named 'none'"),
        ('[chat]\nmodel = "auto"\n', "chat.large is empty"),
    ],
    ids=["key for nowhere", "unknown field", "wrong kind", "no table", "no such name", "no large"],
)
def test_a_table_that_says_too_little_is_refused(tmp_path: Path, content: str, said: str) -> None:
    """The message names the table and what is missing."""
    with pytest.raises(UsageError, match=said) as caught:
        load(tmp_path, content)

    assert caught.value.hint


def test_one_server_has_one_gate(tmp_path: Path, serve: Serve) -> None:
    """Named models at one address share its places, the fewest that any of them names."""
    server = serve(always(*GOOD))
    tables = table("one", base_url=server.url, concurrency=3) + table(
        "two", base_url=f"{server.url}/", concurrency=2
    )
    settings = load(tmp_path, f'[chat]\nmodel = "one"\nfallbacks = ["two"]\n{tables}')

    with closing(open_chat(settings)) as chat:
        first, second = (link.client._upstream for link in chat._links)

    assert first is second
    assert first.gate._most == 2


def test_called_off_is_not_passed_on(tmp_path: Path, serve: Serve) -> None:
    """Nobody is there any more to answer to."""
    silent, second = serve(always("watch")), serve(always(*GOOD))
    options = ChatOptions(deadline_s=20.0)

    with closing(open_chat(chain(tmp_path, silent.url, second.url))) as chat:
        options.cancellation.cancel()
        with pytest.raises((ChatUnavailable, ChatIncomplete)):
            list(chat.stream(QUESTION, options))

    assert second.asked == []
