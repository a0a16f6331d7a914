"""How fast an ingest is, against sentence-transformers' defaults on the same chunks, in one run.

    python -m eval.benchmarks.ingest_speed DOCS

The whole ingest (reading, chunking, embedding, storing, indexing) is timed against encoding alone:
`SentenceTransformer(model).encode(chunks)` as its documentation shows it.
"""

import argparse
import json
import sys
import tempfile
import time
from pathlib import Path

from ingest.store import Store
from ingest.sync import SyncSettings, sync
from ingest.types import embedded_text
from ingest.wordpieces import MODEL_WINDOW, SPECIAL_TOKENS, WordPieces, model_folder


def main() -> int:
    """Time both and print chunks and tokens a second."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("docs", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        store = Path(folder, "store")
        begun = time.perf_counter()
        report = sync(store, [arguments.docs], SyncSettings())
        ours = time.perf_counter() - begun
        texts = _embedded_texts(store)
    counts = [WordPieces().count(text) for text in texts]
    naive = _naive_seconds(texts)
    print(
        json.dumps(
            {
                "documents": len(report.added),
                "chunks": len(texts),
                "tokens": sum(counts),
                "tokens_truncated": sum(
                    max(0, count + SPECIAL_TOKENS - MODEL_WINDOW) for count in counts
                ),
                "whole_ingest_seconds": round(ours, 1),
                "whole_ingest_chunks_per_second": round(len(texts) / ours, 1),
                "library_encode_seconds": round(naive, 1),
                "library_encode_chunks_per_second": round(len(texts) / naive, 1),
                "ratio": round(naive / ours, 2),
            },
            indent=1,
        )
    )
    return 0


def _embedded_texts(store: Path) -> list[str]:
    with Store.open(store) as opened:
        documents = [opened.document(s.source) for s in opened.sources()]
    return [embedded_text(d.title, c.section, c.text) for d in documents for c in d.chunks]


def _naive_seconds(texts: list[str]) -> float:
    """Seconds to encode as the library does by default, its model already loaded."""
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(model_folder()), device="cpu")
    begun = time.perf_counter()
    model.encode(texts, show_progress_bar=False)
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
