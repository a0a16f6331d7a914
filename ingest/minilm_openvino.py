"""The default model in OpenVINO: the fastest engine on a processor, from `ragcite[fast]`.

The graph is built here from the weights; nothing is converted, downloaded or written. Linear layers
multiply 8-bit integers: weights are rounded with one scale for each output, states as they come
with one scale for every 384 values of a token. Rankings do not suffer from it, as
`python -m eval.benchmarks.engines` shows; a scale for fewer values is slower.
"""

import sys
from typing import Any

import numpy as np

from ingest.errors import EmbeddingError
from ingest.minilm import DIMENSION, EPSILON, HEADS, Engine, Mask, Weights, cores, forward
from ingest.records import Matrix

_VALUES_PER_SCALE = 384
_LARGEST = 127


def openvino_engine(weights: Weights) -> Engine:
    """The model compiled for this processor, its other operations in bfloat16 if it has that."""
    # The import would report itself to Google Analytics; openvino does without this package.
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    import openvino
    from openvino import opset13

    states = opset13.parameter([-1, -1, DIMENSION], np.float32)
    mask = opset13.parameter([-1, -1], np.bool_)
    sums = forward(OpenVinoOperations(opset13, weights), states, mask)
    settings = {
        "NUM_STREAMS": cores(),
        "INFERENCE_NUM_THREADS": cores(),
        "ENABLE_CPU_PINNING": False,  # other processes read files meanwhile
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": _VALUES_PER_SCALE,
    }
    model = openvino.Model([sums], [states, mask])
    try:
        compiled = openvino.Core().compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise EmbeddingError(
            f"openvino cannot compile the embedding model: {error}".splitlines()[0],
            "set `embedding.engine` to torch",
        ) from error

    def run(states: Matrix, mask: Mask) -> Matrix:
        vectors: Matrix = compiled.create_infer_request().infer([states, mask])[0]
        return vectors

    return run


class OpenVinoOperations:
    """The operations of `ingest.minilm.Operations` as nodes of a graph."""

    def __init__(self, opset: Any, weights: Weights) -> None:
        self._opset = opset
        self._weights = weights

    def linear(self, name: str, states: Any, *, gelu: bool = False, plus: Any = None) -> Any:
        """See Operations."""
        weight = self._rounded(self._weights[name + ".weight"])
        product = self._opset.matmul(states, weight, False, True)
        product = self._opset.add(product, self._weights[name + ".bias"])
        if gelu:
            product = self._opset.gelu(product, "erf")
        return product if plus is None else self._opset.add(product, plus)

    def _rounded(self, matrix: Matrix) -> Any:
        """A matrix as 8-bit integers times a scale for each row."""
        scale = np.abs(matrix).max(axis=1, keepdims=True) / _LARGEST
        integers = self._opset.constant(np.rint(matrix / scale).astype(np.int8))
        return self._opset.multiply(self._opset.convert(integers, "f32"), scale)

    def norm(self, name: str, states: Any) -> Any:
        """See Operations."""
        centred = self._opset.mvn(states, [-1], True, EPSILON, "inside_sqrt")
        scaled = self._opset.multiply(centred, self._weights[name + ".weight"])
        return self._opset.add(scaled, self._weights[name + ".bias"])

    def bias(self, mask: Any) -> Any:
        """See Operations."""
        nothing, all_of_it = np.float32(0), np.float32(-np.inf)
        return self._opset.select(self._opset.unsqueeze(mask, [1, 2]), nothing, all_of_it)

    def attention(self, projected: Any, bias: Any) -> Any:
        """See Operations."""
        parts = self._opset.split(projected, 2, 3).outputs()
        heads = (self._swapped(self._shaped(part, HEADS, -1)) for part in parts)
        mixed = self._opset.scaled_dot_product_attention(*heads, bias)
        return self._shaped(self._swapped(mixed), DIMENSION)

    def _shaped(self, states: Any, *last: int) -> Any:
        """The same numbers with other axes behind the first two."""
        return self._opset.reshape(states, [0, 0, *last], True)

    def _swapped(self, states: Any) -> Any:
        """Heads before tokens, or back."""
        return self._opset.transpose(states, [0, 2, 1, 3])

    def total(self, states: Any, mask: Any) -> Any:
        """See Operations."""
        kept = self._opset.convert(self._opset.unsqueeze(mask, [2]), "f32")
        return self._opset.reduce_sum(self._opset.multiply(states, kept), [1])
