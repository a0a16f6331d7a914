"""The nastiest files we know, ingested at once: what becomes of each, and whether all ends well.

    python -m eval.benchmarks.hostile [--tiny 40000] [--seconds 20]

Every file is made here: bombs, loops, devices, broken structures, odd encodings and names, and very
many tiny files. A line is printed for each: added, skipped or failed, and why. It exits with 1 if
anything that can be read was not, anything hung beyond the limit, or a device was opened. Vectors
are hashes: what is tried is the reading.
"""

import argparse
import gzip
import io
import os
import sys
import tarfile
import tempfile
import time
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

from eval.benchmarks.hashes import HashEmbedder
from ingest.loaders.options import DEFAULT_OPTIONS
from ingest.report import SyncReport
from ingest.store import Store
from ingest.sync import SyncSettings, sync

_GERMAN, _RUSSIAN = (
    "Die Prüfung größerer Anlagen dauert drei Wochen. ",
    "Срок проверки три недели. ",
)
_JAPANESE, _CHINESE = "検査の期間は三週間です。", "检查期限为三个星期。"
_ENTITY = '<!DOCTYPE w [<!ENTITY x SYSTEM "file:///etc/passwd">]><w>&x;</w>'
_MIB = 1 << 20

ENCODED = {
    "utf16.txt": (_GERMAN, "utf-16"),
    "bom.txt": (_GERMAN, "utf-8-sig"),
    "shift-jis.txt": (_JAPANESE * 20, "shift_jis"),
    "gb18030.txt": (_CHINESE * 20, "gb18030"),
    "koi8.txt": (_RUSSIAN * 20, "koi8-r"),
}
"""Names, texts and encodings of files that are read as what they are."""
LEFT = {
    "pipe.md", "zero.md", "loop", "outside.md", "binary.txt", "bomb.zip", "nested.zip", "bomb.docx",
    "entity.docx", "bomb.pdf", "cycle.pdf", "truncated.pdf", "broken.docx", "empty.pdf", "huge.csv",
    "long-line.txt",
}  # fmt: skip
"""What is to be skipped or to fail, each alone."""


def write_hostile(folder: Path) -> None:
    """Make all the files but the tiny ones."""
    for name, (text, encoding) in ENCODED.items():
        (folder / name).write_text(text, encoding=encoding)
    plain = {
        "mojibake.txt": (_GERMAN * 5).encode().decode("latin-1").encode(),
        "nul.txt": b"The valve\0 closes at\x1b[31m five bar.",
        "line.txt": b"word and another one, " * (15 * _MIB // 22),
        "long-line.txt": b"word and another one, " * (50 * _MIB // 22),
        "deep.html": b"<div>" * 200_000 + b"<p>The bottom of the page.</p>",
        "two\nlines \x1b[31mred.md": b"A file whose name has a line break.",
        "binary.txt": os.urandom(_MIB),
        "huge.csv": b"a,b\n" + b'"' + b"x" * 30 * _MIB,
        "truncated.pdf": b"%PDF-1.7\n1 0 obj\n<< /Type /Catalog /Pages 2 0 R",
        "empty.pdf": b"",
        "broken.docx": b"PK\x03\x04 no archive",
        "bomb.pdf": _pdf(zlib.compress(bytes(700 * _MIB)), kids="[3 0 R]"),
        "cycle.pdf": _pdf(zlib.compress(b"BT ET"), kids="[2 0 R]"),
        "bomb.zip": _zipped({"zeros.txt": bytes(1100 * _MIB)}),
        "bomb.docx": _zipped({"word/document.xml": bytes(1100 * _MIB)}),
        "entity.docx": _zipped({"[Content_Types].xml": _ENTITY, "word/document.xml": _ENTITY}),
        "fine.tar.gz": _tarred({"inside.md": b"# Inside\n\nA file within an archive."}),
    }
    nested = _zipped({"leaf.md": b"# Leaf"})
    for _ in range(6):
        nested = _zipped({"inner.zip": nested})
    for name, data in (plain | {"nested.zip": nested}).items():
        (folder / name).write_bytes(data)
    os.mkfifo(folder / "pipe.md")
    for name, target in (("zero.md", "/dev/zero"), ("loop", "."), ("outside.md", "/etc/hostname")):
        (folder / name).symlink_to(target)


def _pdf(stream: bytes, kids: str) -> bytes:
    """A PDF of one page whose content is a compressed stream; pypdf finds its objects by itself."""
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids %s /Count 1 >>" % kids.encode(),
        b"<< /Type /Page /Parent 2 0 R /Contents 4 0 R /MediaBox [0 0 9 9] >>",
        b"<< /Length %d /Filter /FlateDecode >>\nstream\n%s\nendstream" % (len(stream), stream),
    ]
    body = b"".join(b"%d 0 obj\n%s\nendobj\n" % (n, o) for n, o in enumerate(objects, 1))
    return b"%PDF-1.7\n" + body + b"trailer << /Root 1 0 R /Size 5 >>\n%%EOF"


def _zipped(members: dict[str, bytes | str]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def _tarred(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, data in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            archive.addfile(entry, io.BytesIO(data))
    return gzip.compress(buffer.getvalue())


def misread(store: Path, report: SyncReport) -> list[str]:
    """What did not end as it should."""
    left = {problem.source.partition("/")[0] for problem in report.problems}
    wrong = [f"read all the same: {name}" for name in sorted(LEFT - left)]
    wrong += [f"not read: {name}" for name in sorted(left - LEFT)]
    with Store.open(store) as opened:
        for name, (text, _) in ENCODED.items():
            if opened.document(name).document.text.strip() != text.strip():
                wrong.append(f"read wrongly: {name}")
    return wrong


def main() -> int:
    """Make the files, ingest them and say what became of them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--tiny", type=int, default=40_000)
    parser.add_argument("--seconds", type=float, default=20.0, help="allowed for each file")
    arguments = parser.parse_args()
    settings = SyncSettings(options=replace(DEFAULT_OPTIONS, max_seconds=arguments.seconds))
    with tempfile.TemporaryDirectory() as work:
        docs, store = Path(work, "docs"), Path(work, ".rag")
        for number in range(arguments.tiny):
            path = docs / "tiny" / f"{number // 1000:02}" / f"{number:05}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"Note {number} says {number * 7}.")
        write_hostile(docs)
        begun = time.perf_counter()
        report = sync(store, [docs], settings, embedder=HashEmbedder())
        seconds = time.perf_counter() - begun
        wrong = misread(store, report)
    for problem in sorted(report.problems, key=lambda problem: problem.source):
        print(
            f"{'skipped' if problem.skipped else 'failed ':8} {problem.source!r}: {problem.message}"
        )
    for name in (name for name in report.added if not name.startswith("tiny/")):
        print(f"added    {name!r}")
    print(f"{len(report.added)} documents added in {seconds:.0f} s; {len(wrong)} ended wrongly")
    print(*wrong, sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
