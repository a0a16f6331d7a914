"""What would be kept from a chat API, of documents that hold little that is private: false alarms.

    python -m eval.benchmarks.redaction PATH... [--shown 5]

Every file is read as an ingest reads it. For each kind of personal data and secret it prints how
many would be replaced, how many for a million characters, and examples to judge by eye; and how
long the search for secrets takes beside reading and cutting the same texts.
"""

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter

from ingest.chunk import chunk
from ingest.config import IndexSettings
from ingest.credentials import find_credentials
from ingest.discover import FoundFile, discover
from ingest.load import DEFAULT_OPTIONS, format_of, load, read_file
from ingest.types import Document
from ingest.wordpieces import WordPieces
from rag.safety.personal import finder

_AROUND = 24


def documents(roots: Sequence[Path]) -> Iterator[Document]:
    """Every document below the roots."""
    for root in roots:
        for found in discover(root, lambda name: format_of(name) is not None):
            if isinstance(found, FoundFile):
                data = read_file(found.path, DEFAULT_OPTIONS.max_file)
                parts = load(data, found.relative)
                yield from (part for part in parts if isinstance(part, Document))


def main() -> None:
    """Print counts, examples and times."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("roots", nargs="+", type=Path)
    parser.add_argument("--shown", type=int, default=5)
    options = parser.parse_args()
    find, pieces, index = finder(["all"], secrets=True), WordPieces(), IndexSettings()
    counts: Counter[str] = Counter()
    shown: dict[str, dict[str, str]] = {}
    characters, seconds = 0, dict.fromkeys(("read", "cut", "secrets"), 0.0)
    begun = perf_counter()
    for document in documents(options.roots):
        text = document.text
        seconds["read"] += perf_counter() - begun
        begun = perf_counter()
        chunk(document, pieces, index)
        seconds["cut"] += perf_counter() - begun
        begun = perf_counter()
        find_credentials(text)
        seconds["secrets"] += perf_counter() - begun
        characters += len(text)
        for one in find(text):
            counts[one.kind] += 1
            around = text[max(0, one.start - _AROUND) : one.end + _AROUND]
            shown.setdefault(one.kind, {})[text[one.start : one.end][:60]] = around
        begun = perf_counter()
    share = seconds["secrets"] / sum(seconds.values())
    times = ", ".join(f"{name} {value:.2f} s" for name, value in seconds.items())
    print(f"{characters / 1e6:.1f} million characters; {times}: secrets {share:.1%}")
    for kind, count in counts.most_common():
        print(
            f"{kind}: {count}, {count / characters * 1e6:.1f} a million, {len(shown[kind])} values"
        )
        for value, around in [*shown[kind].items()][: options.shown]:
            print(f"    {value!r} in {' '.join(around.split())!r}")


if __name__ == "__main__":
    main()
