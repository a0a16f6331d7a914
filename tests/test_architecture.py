"""The walls: imports point one way, each library has one door, and a start stays light."""

import ast
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

import ingest

ROOT = Path(ingest.__file__).parent.parent
PACKAGES = ("ingest", "rag", "eval")
ALLOWED = {"ingest": {"ingest"}, "rag": {"ingest", "rag"}, "eval": {"ingest", "rag", "eval"}}
# The one place where all meet: nobody else imports it.
COMPOSITION_ROOT = ("rag.cli", "rag.commands")
HEAVY = (
    "torch",
    "sentence_transformers",
    "transformers",
    "chromadb",
    "tiktoken",
    "docutils",
    "pypdf",
    "pypdfium2",
    "pptx",
    "python_calamine",
    "lxml",
    "httpx",
    "openvino",
    "watchfiles",
    "spacy",
    "presidio_analyzer",
)
# numpy is the currency of vectors; it may be spoken everywhere below the command line.
SHARED_LIBRARIES = {"numpy"}
FORBIDDEN = (
    "query_texts",
    "chroma run",
    "pickle.load",
    "trust_remote_code=True",
    "yaml.load(",
    "shell=True",
    "verify=False",
    "innerHTML",
)


def modules() -> dict[str, Path]:
    """Every module of the three packages by its dotted name."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return found


def imported(path: Path) -> set[str]:
    """Dotted names that a file imports anywhere, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module)
    return names


def top_level(name: str) -> str:
    return name.partition(".")[0]


def test_there_are_modules_to_check() -> None:
    """An empty list of modules would make every other check here pass."""
    assert {"ingest.types", "rag.types", "eval.types", "rag.cli"} <= modules().keys()


@pytest.mark.parametrize("name", sorted(modules()))
def test_imports_point_one_way(name: str) -> None:
    """eval imports rag, rag imports ingest, never back; only the command line may import eval."""
    allowed = set(PACKAGES) if name.startswith(COMPOSITION_ROOT) else ALLOWED[top_level(name)]

    ours = {top_level(other) for other in imported(modules()[name])} & set(PACKAGES)

    assert ours <= allowed


def test_nobody_imports_the_command_line() -> None:
    """The composition root is a leaf: only its own parts import each other."""
    importers = {
        name
        for name, path in modules().items()
        if any(other.startswith(COMPOSITION_ROOT) for other in imported(path))
    }

    assert {name for name in importers if not name.startswith(COMPOSITION_ROOT)} == set()


def test_packages_hold_only_a_docstring() -> None:
    """A re-export in __init__ would load the whole package for its smallest part."""
    for path in (path for path in modules().values() if path.name == "__init__.py"):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        assert [type(node) for node in body] == [ast.Expr]


def test_each_library_is_imported_in_one_module() -> None:
    """A library that must be replaced or patched has one door; all commands together are one."""
    doors: dict[str, set[str]] = defaultdict(set)
    for name, path in modules().items():
        if name.startswith("eval.benchmarks"):
            continue  # they time the libraries against the product
        for other in imported(path):
            library = top_level(other)
            if library not in sys.stdlib_module_names and library not in PACKAGES:
                doors[library].add("rag.cli" if name.startswith(COMPOSITION_ROOT) else name)

    several = {k: v for k, v in doors.items() if len(v) > 1 and k not in SHARED_LIBRARIES}

    assert several == {}


def test_no_import_cycles_when_modules_load() -> None:
    """Modules load in an order: following module-level imports never returns to the start."""
    graph = {
        name: module_level_imports(path) & modules().keys() for name, path in modules().items()
    }
    settled: set[str] = set()
    while ready := {n for n, needs in graph.items() if n not in settled and needs <= settled}:
        settled |= ready

    assert graph.keys() - settled == set()


def module_level_imports(path: Path) -> set[str]:
    """Imports outside functions and `if TYPE_CHECKING`, with `from package import module` too."""
    names: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names


def test_importing_the_command_line_stays_light() -> None:
    """`rag --help` loads no heavy library."""
    code = (
        f"import rag.cli, sys; print([m for m in {(*HEAVY, 'numpy', 'rich')} if m in sys.modules])"
    )

    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )

    assert result.stdout.strip() == "[]"


def test_dangerous_calls_are_absent() -> None:
    """No call that runs code from data, opens a shell, or skips a check."""
    found = [
        (name, word)
        for name, path in modules().items()
        for word in FORBIDDEN
        if word in path.read_text(encoding="utf-8")
    ]

    assert found == []


def test_builtin_eval_is_never_called() -> None:
    """Text is never run as code."""
    callers = [
        name
        for name, path in modules().items()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in {"eval", "exec"}
    ]

    assert callers == []
