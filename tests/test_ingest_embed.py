"""Which engine embeds what, and how other models are used."""

import subprocess
import sys

import numpy as np
import pytest

from ingest import embed
from ingest.embed import DefaultEmbedder, SentenceTransformerEmbedder, open_embedder
from ingest.errors import EmbeddingError, UsageError
from ingest.minilm import MiniLM
from ingest.wordpieces import model_folder

MUCH = ["A sentence about leave and pay. " * 25] * 80


@pytest.fixture
def used(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The engines that were made, in place of which numpy's runs."""
    made: list[str] = []

    def make(name: str):
        def engine(weights):
            made.append(name)
            return lambda states, mask: np.ones((len(states), 384), np.float32)

        return engine

    monkeypatch.setattr(embed, "ENGINES", {name: make(name) for name in embed.ENGINES})
    return made


def only(monkeypatch: pytest.MonkeyPatch, *installed: str) -> None:
    """Let only these libraries be found."""
    monkeypatch.setattr(embed, "find_spec", lambda name: name in installed or None)


@pytest.mark.parametrize(
    ("installed", "expected"),
    [(("numpy", "torch", "openvino"), "openvino"), (("numpy", "torch"), "torch"),
     (("numpy",), "numpy")],
)  # fmt: skip
def test_the_fastest_installed_engine_embeds_the_bulk(
    installed: tuple[str, ...], expected: str, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """openvino before torch before numpy."""
    only(monkeypatch, *installed)

    open_embedder("all-MiniLM-L6-v2").embed_documents(MUCH)

    assert used == [expected]


def test_little_text_waits_for_no_library(used: list[str]) -> None:
    """A small edit and a question are embedded by numpy alone, once the bulk has not been."""
    embedder = DefaultEmbedder()

    few = embedder.embed_documents(["one", "two"])

    assert used == []
    np.testing.assert_array_equal(few[0], embedder.embed_query("one"))


def test_a_loaded_engine_embeds_little_text_too(used: list[str]) -> None:
    """Once it is there it is the fastest for documents; questions stay with numpy."""
    embedder = DefaultEmbedder()
    embedder.embed_documents(MUCH)

    assert embedder.embed_documents(["one"])[0] == pytest.approx(np.full(384, 384**-0.5))
    np.testing.assert_array_equal(embedder.embed_query("one"), MiniLM().embed_query("one"))


@pytest.mark.parametrize("engine", ["numpy", "torch", "openvino"])
def test_a_chosen_engine_embeds_all_documents(
    engine: str, used: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting is obeyed, for little text as well."""
    only(monkeypatch, "numpy", "torch", "openvino")

    DefaultEmbedder(engine).embed_documents(["one"])

    assert used == [engine]


def test_an_engine_that_is_not_installed_says_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The hint is a command."""
    only(monkeypatch, "numpy", "torch")

    with pytest.raises(EmbeddingError) as caught:
        open_embedder("all-MiniLM-L6-v2", "openvino")

    assert "pip install 'ragcite[fast]'" in caught.value.hint


def test_an_unknown_engine_is_refused() -> None:
    """The hint lists those there are."""
    with pytest.raises(UsageError) as caught:
        open_embedder("all-MiniLM-L6-v2", "cuda")

    assert caught.value.hint == ("set `embedding.engine` to auto or one of openvino, torch, numpy")


def test_tokens_beyond_the_window_add_up_over_engines(used: list[str]) -> None:
    """It is one count, whoever embeds."""
    embedder = DefaultEmbedder()
    embedder.embed_documents(["x " * 300])
    before = embedder.truncated
    embedder.embed_documents(["x " * 300, *MUCH])

    assert (before, embedder.truncated) == (46, 92)


def test_another_model_is_used_with_its_own_window() -> None:
    """Any sentence-transformers folder gives unit vectors, progress and a count of lost tokens."""
    other = SentenceTransformerEmbedder(str(model_folder()))
    texts = ["short", "x " * 300, ""] * 100
    told: list[int] = []

    vectors = other.embed_documents(texts, told.append)

    expected = MiniLM()
    assert (vectors[:3] * expected.embed_documents(texts[:3])).sum(axis=1).min() > 0.9995
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert told == [256, 300]
    assert other.truncated == 100 * expected.truncated
    assert other.dimension == 384
    assert other.embed_query("short") @ vectors[0] > 0.9995


def test_a_model_that_cannot_be_loaded_is_an_error_with_a_hint(tmp_path) -> None:
    """What the library raises becomes a message for a person."""
    (tmp_path / "config.json").write_text("{}")

    with pytest.raises(EmbeddingError) as caught:
        SentenceTransformerEmbedder(str(tmp_path)).embed_query("a question")

    assert "embedding.model" in caught.value.hint


def test_the_default_model_needs_no_hub() -> None:
    """Nothing that could ask the network is imported for it."""
    code = (
        "import sys\n"
        "from ingest.embed import open_embedder\n"
        "open_embedder('all-MiniLM-L6-v2', 'torch').embed_documents(['a text'])\n"
        "print([m for m in ('transformers', 'sentence_transformers') if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )

    assert result.stdout.strip() == "[]"
