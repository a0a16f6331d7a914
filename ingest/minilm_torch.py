"""The default model in torch: the engine for whole folders that comes with the base dependencies.

Weights are laid out once as oneDNN wants them, by the operators that torch's own compiler emits
for a linear layer with its activation or sum; without oneDNN they are plain torch.
"""

from typing import Any

from ingest.minilm import DIMENSION, EPSILON, HEAD, HEADS, Engine, Mask, Weights, forward
from ingest.records import Matrix

_PROBE_ROUNDS = 10


def torch_engine(weights: Weights) -> Engine:
    """The model in bfloat16 where this processor is faster with it, else in float32."""
    import torch

    dtype = torch.bfloat16 if bfloat16_pays() else torch.float32
    operations = TorchOperations(torch, weights, dtype)

    def run(states: Matrix, mask: Mask) -> Matrix:
        torch.set_num_threads(1)  # of this thread: the caller has one for each core
        with torch.inference_mode():
            tensors = torch.from_numpy(states).to(dtype), torch.from_numpy(mask)
            sums: Matrix = forward(operations, *tensors).numpy()
        return sums

    return run


def bfloat16_pays() -> bool:
    """Time one layer's product in both formats: 30 ms that decide a factor of 2 to 3."""
    from timeit import repeat

    import torch

    def seconds(dtype: Any) -> float:
        left, right = (torch.ones(shape, dtype=dtype) for shape in ((1024, 384), (384, 1536)))
        # The best of all rounds: the first pays for set-up, others may wait for other processes.
        return min(repeat(lambda: left @ right, number=1, repeat=_PROBE_ROUNDS))

    return seconds(torch.bfloat16) < seconds(torch.float32) * 0.8


class TorchOperations:
    """The operations of `ingest.minilm.Operations` on tensors of one number format."""

    def __init__(self, torch: Any, weights: Weights, dtype: Any) -> None:
        self._torch = torch
        self._dtype = dtype
        self._packed = torch.backends.mkldnn.is_available()
        self._weights = {
            name: self._laid_out(torch.from_numpy(array).to(dtype))
            for name, array in weights.items()
            if name.startswith("encoder.") or "LayerNorm" in name
        }

    def _laid_out(self, tensor: Any) -> Any:
        if self._packed and tensor.ndim > 1:
            return self._torch.ops.mkldnn._reorder_linear_weight(tensor)
        return tensor

    def _parameters(self, name: str) -> tuple[Any, Any]:
        return self._weights[name + ".weight"], self._weights[name + ".bias"]

    def linear(self, name: str, states: Any, *, gelu: bool = False, plus: Any = None) -> Any:
        """See Operations."""
        parameters = self._parameters(name)
        functional, packed = self._torch.nn.functional, self._torch.ops.mkldnn._linear_pointwise
        if not self._packed:
            product = functional.linear(states, *parameters)
            product = functional.gelu(product) if gelu else product
            return product if plus is None else product + plus
        if plus is not None:
            return packed.binary(states, plus, *parameters, "add")
        return packed(states, *parameters, "gelu" if gelu else "none", [], "none")

    def norm(self, name: str, states: Any) -> Any:
        """See Operations."""
        parameters = self._parameters(name)
        return self._torch.nn.functional.layer_norm(states, (DIMENSION,), *parameters, EPSILON)

    def bias(self, mask: Any) -> Any:
        """See Operations."""
        added = self._torch.zeros(mask.shape, dtype=self._dtype)
        return added.masked_fill_(~mask, -self._torch.inf)[:, None, None, :]

    def attention(self, projected: Any, bias: Any) -> Any:
        """See Operations."""
        heads = projected.unflatten(2, (3, HEADS, HEAD)).permute(2, 0, 3, 1, 4)
        if self._dtype is self._torch.bfloat16:
            return self._by_text(heads, bias)
        mixed = self._torch.nn.functional.scaled_dot_product_attention(*heads, attn_mask=bias)
        return mixed.transpose(1, 2).flatten(2)

    def _by_text(self, heads: Any, bias: Any) -> Any:
        """One text after the other, its padding left out: their scores stay in a core's cache.

        The scores' exponentials are taken as they are: to bring the largest of each row to 0 first
        takes as long again, and only very large scores, or very small ones alone, need it.
        """
        torch = self._torch
        _, texts, _, width, _ = heads.shape
        mixed = heads.new_zeros(texts, width, HEADS, HEAD)
        for text, tokens in enumerate((bias == 0).sum(-1).flatten().tolist()):
            query, key, value = heads[:, text, :, :tokens].contiguous()
            query *= HEAD**-0.5
            shares = torch.bmm(query, key.transpose(1, 2)).exp_()
            total = shares.sum(-1, keepdim=True)
            if not total.log().isfinite().all():
                shares = torch.bmm(query, key.transpose(1, 2)).softmax(-1)
                total = shares.sum(-1, keepdim=True)
            out = mixed[text, :tokens].transpose(0, 1)
            torch.div(torch.bmm(shares, value), total, out=out)
        return mixed.flatten(2)

    def total(self, states: Any, mask: Any) -> Any:
        """See Operations."""
        return (states.float() * mask[:, :, None]).sum(1)
