"""The default model's architecture gives the library's vectors on every engine."""

import os
import signal
import subprocess
import sys
import threading
import time
from importlib.util import find_spec

import numpy as np
import pytest

from ingest import wordpieces
from ingest.errors import EmbeddingError
from ingest.minilm import Engine, Matrix, MiniLM, NumpyOperations, Weights, numpy_engine
from ingest.minilm_openvino import openvino_engine
from ingest.minilm_torch import TorchOperations, torch_engine
from ingest.wordpieces import MODEL_WINDOW, WordPieces, fit_window, model_folder

TEXTS = (
    "How many days of leave do new employees get?",
    "",
    "x " * 600,
    "Ünïcödé ist schön — 東京へ行く. Привет, мир! مرحبا",
    "def f(x):\n    return {'a': [1, 2, 3]}",
    *(f"{'Sentence ' * (i % 40)} number {i}." for i in range(40)),
)

needs_openvino = pytest.mark.skipif(
    not find_spec("openvino"), reason="openvino is not installed: it comes with ragcite[fast]"
)
ENGINES = [
    pytest.param(numpy_engine, 0.999999, id="numpy"),
    pytest.param(torch_engine, 0.9995, id="torch"),
    pytest.param(openvino_engine, 0.98, id="openvino", marks=needs_openvino),
]


@pytest.fixture(scope="module")
def reference() -> Matrix:
    """Vectors of the library in float32, its own defaults."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu")
    return model.encode(list(TEXTS), normalize_embeddings=True, show_progress_bar=False)


def test_numpy_vectors_equal_the_librarys(reference: Matrix) -> None:
    """Every text's vector is the library's to five digits, whatever batch it was in."""
    np.testing.assert_allclose(MiniLM().embed_documents(TEXTS), reference, atol=1e-5)


@pytest.mark.parametrize(("engine", "cosine"), ENGINES)
def test_engines_give_the_librarys_vectors(engine, cosine: float, reference: Matrix) -> None:
    """In their order and of unit length, as close as the engine's number format allows."""
    vectors = MiniLM(engine).embed_documents(TEXTS)

    assert (vectors * reference).sum(axis=1).min() > cosine
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("patch", ["float32", "no oneDNN"])
def test_torch_needs_neither_bfloat16_nor_onednn(
    patch: str, reference: Matrix, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another processor torch gives the same vectors by plainer means."""
    monkeypatch.setattr("ingest.minilm_torch.bfloat16_pays", lambda: False)
    if patch == "no oneDNN":
        monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: False)

    vectors = MiniLM(torch_engine).embed_documents(TEXTS)

    np.testing.assert_allclose(vectors, reference, atol=1e-5)


@pytest.mark.parametrize("size", [0.1, 1, 20, 300])
@pytest.mark.parametrize("sign", [1, -1])
def test_attention_in_bfloat16_bears_scores_of_any_size(size: float, sign: int) -> None:
    """Scores whose exponentials overflow, or are all 0, are mixed as in float32."""
    import torch

    random = np.random.default_rng(3)
    projected = random.standard_normal((2, 9, 3, 12, 32)).astype(np.float32)
    projected[:, :, 0] = sign * size * np.abs(projected[:, :, 0])
    projected[:, :, 1] = np.abs(projected[:, :, 1])
    projected = torch.from_numpy(projected.reshape(2, 9, -1)).bfloat16()
    mask = np.arange(9) < np.array([[9], [5]])
    exact, fast = NumpyOperations({}), TorchOperations(torch, {}, torch.bfloat16)

    expected = exact.attention(projected.float().numpy(), exact.bias(mask))
    mixed = fast.attention(projected, fast.bias(torch.from_numpy(mask))).float().numpy()

    # Not the largest error: bfloat16 keeps three digits of a score, which may change who wins.
    assert np.quantile(np.abs(mixed - expected)[mask], 0.97) < 0.1


@pytest.mark.parametrize(("engine", "cosine"), ENGINES)
def test_threads_change_no_vector(engine, cosine: float) -> None:
    """Three batches at a time give what one after the other gives."""
    one = MiniLM(engine, threads=1).embed_documents(TEXTS)
    three = MiniLM(engine, threads=3).embed_documents(TEXTS)

    np.testing.assert_array_equal(one, three)


def test_a_question_is_embedded_like_a_document(reference: Matrix) -> None:
    """One text alone gives the vector it has among others."""
    np.testing.assert_allclose(MiniLM().embed_query(TEXTS[0]), reference[0], atol=1e-5)


def test_no_texts_give_no_vectors() -> None:
    """An empty batch is an empty matrix of the right width."""
    assert MiniLM().embed_documents([]).shape == (0, 384)


def test_what_lies_beyond_the_window_is_counted() -> None:
    """Tokens that the model does not read add up; a text that fits adds none."""
    model = MiniLM(zeros)
    length = len(WordPieces().encode(["x " * 600])[0])

    model.embed_documents(["short", "x " * 600])
    model.embed_documents(["x " * 600])

    assert model.truncated == 2 * (length - MODEL_WINDOW)


def test_input_is_cut_at_the_models_window() -> None:
    """Longer text keeps the closing special token, as the library does."""
    pieces = WordPieces()

    ids = fit_window(pieces.encode(["x " * 600])[0])

    assert len(ids) == MODEL_WINDOW
    assert ids[-1] == pieces.encode(["x"])[0][-1]


def zeros(weights: Weights) -> Engine:
    """An engine that does nothing, for what happens around it."""
    return lambda states, mask: np.ones((len(states), 384), np.float32)


def test_progress_counts_the_texts() -> None:
    """It grows with every batch, also beyond what is sorted at once, and ends at the total."""
    told: list[int] = []

    MiniLM(zeros).embed_documents(["one text"] * 5000, told.append)

    assert told == sorted(set(told))
    assert told[-1] == 5000


def test_padding_is_small_and_batches_are_bounded() -> None:
    """A batch holds texts of like length: little of what the model computes is thrown away."""
    shapes: list[tuple[int, int, int]] = []

    def engine(weights: Weights) -> Engine:
        def run(states: Matrix, mask: np.ndarray) -> Matrix:
            shapes.append((*mask.shape, int(mask.sum())))
            return np.ones((len(states), 384), np.float32)

        return run

    MiniLM(engine, threads=1).embed_documents(["word " * (i % 254) for i in range(2000)])

    assert max(rows * width for rows, width, _ in shapes) <= 1000
    assert sum(filled for *_, filled in shapes) > 0.98 * sum(r * w for r, w, _ in shapes)


def test_an_error_ends_the_work_at_once() -> None:
    """What an engine or the caller raises passes on, and the batches that wait are not computed."""
    calls: list[int] = []

    def engine(weights: Weights) -> Engine:
        def run(states: Matrix, mask: np.ndarray) -> Matrix:
            calls.append(len(states))
            time.sleep(0.01)
            return np.ones((len(states), 384), np.float32)

        return run

    def interrupt(done: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        MiniLM(engine, threads=2).embed_documents(["word " * 250] * 400, interrupt)

    assert len(calls) < 10
    assert not [t for t in threading.enumerate() if t.name.startswith("embed")]


@pytest.mark.parametrize("engine", ["torch", pytest.param("openvino", marks=needs_openvino)])
def test_an_interrupt_ends_a_process_that_embeds(engine: str) -> None:
    """Ctrl-C is heard in the middle of much work."""
    code = (
        "from ingest.embed import open_embedder\n"
        f"embedder = open_embedder('all-MiniLM-L6-v2', {engine!r})\n"
        "embedder.embed_documents(['word ' * 250] * 3000, lambda done: print(done, flush=True))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()  # it is at work
    os.kill(process.pid, signal.SIGINT)
    sent = time.monotonic()

    _, errors = process.communicate(timeout=60)

    assert "KeyboardInterrupt" in errors
    assert time.monotonic() - sent < 10


@needs_openvino
def test_a_processor_that_openvino_cannot_use_is_an_error_with_a_hint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What the library raises becomes a message that names the engine to use instead."""

    def fail(*_: object) -> None:
        raise RuntimeError("Exception from core.cpp:\nno such instruction")

    monkeypatch.setitem(sys.modules, "openvino_telemetry", None)  # as the engine does
    monkeypatch.setattr("openvino.Core.compile_model", fail)

    with pytest.raises(EmbeddingError) as caught:
        MiniLM(openvino_engine).embed_query("a question")

    assert caught.value.hint == "set `embedding.engine` to torch"


@needs_openvino
def test_openvino_tells_nobody(tmp_path) -> None:
    """Left alone, its import reports itself to a web service and leaves a file at home."""
    code = (
        "import sys\n"
        "from ingest.embed import open_embedder\n"
        "open_embedder('all-MiniLM-L6-v2', 'openvino').embed_documents(['a text'])\n"
        "assert 'openvino' in sys.modules and 'torch' not in sys.modules\n"
    )
    environment = {k: v for k, v in os.environ.items() if k != "CI"} | {"HOME": str(tmp_path)}

    subprocess.run([sys.executable, "-c", code], env=environment, check=True)

    assert list(tmp_path.iterdir()) == []


def test_a_long_text_is_measured_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut at white space it has the same wordpieces as whole; without any it is cut as well."""
    spaced, endless = "word another\nthird " * 400, "x" * 5000
    whole = WordPieces().starts(spaced)
    monkeypatch.setattr(wordpieces, "_SEGMENT", 1000)

    assert WordPieces().starts(spaced) == whole
    assert WordPieces().starts(endless) == sorted({*WordPieces().starts(endless)})
    assert WordPieces().starts(endless)[-1] >= 4000
