"""The numpy forward pass gives the library's vectors."""

import numpy as np
import pytest

from ingest.embed import DefaultEmbedder, SentenceTransformerEmbedder
from ingest.minilm import MiniLM
from ingest.wordpieces import MODEL_WINDOW, WordPieces, model_folder

TEXTS = (
    "How many days of leave do new employees get?",
    "",
    "x " * 600,
    "Ünïcödé ist schön — 東京へ行く. Привет, мир! مرحبا",
    "def f(x):\n    return {'a': [1, 2, 3]}",
    *(f"{'Sentence ' * (i % 40)} number {i}." for i in range(40)),
)


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    """Vectors of the library in float32, its own defaults."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu")
    return model.encode(list(TEXTS), normalize_embeddings=True, show_progress_bar=False)


def test_vectors_equal_the_librarys(reference: np.ndarray) -> None:
    """Every text's vector is the library's to five digits, whatever batch it was in."""
    ours = MiniLM().embed_documents(TEXTS)

    np.testing.assert_allclose(ours, reference, atol=1e-5)


def test_a_question_is_embedded_like_a_document(reference: np.ndarray) -> None:
    """One text alone gives the vector it has among others."""
    np.testing.assert_allclose(MiniLM().embed_query(TEXTS[0]), reference[0], atol=1e-5)


def test_bulk_vectors_agree_with_question_vectors(reference: np.ndarray) -> None:
    """The format chosen for bulk ingest changes no cosine that matters."""
    bulk = SentenceTransformerEmbedder("all-MiniLM-L6-v2", str(model_folder()))

    vectors = bulk.embed_documents(TEXTS)

    assert (vectors * reference).sum(axis=1).min() > 0.999
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_little_text_never_loads_torch() -> None:
    """A small edit is embedded by numpy; the bulk engine is not built."""
    embedder = DefaultEmbedder()

    vectors = embedder.embed_documents(["one", "two"])

    assert vectors.shape == (2, 384)
    assert "_large" not in vars(embedder)


def test_no_texts_give_no_vectors() -> None:
    """An empty batch is an empty matrix of the right width."""
    assert MiniLM().embed_documents([]).shape == (0, 384)


def test_input_is_cut_at_the_models_window() -> None:
    """Longer text keeps the closing special token, as the library does."""
    (ids,) = WordPieces().encode(["x " * 600])

    assert len(ids) == MODEL_WINDOW
    assert ids[-1] == WordPieces().encode(["x"])[0][-1]
