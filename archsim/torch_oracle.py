"""What PyTorch says about a case: the reference's result, and how sensitive it is to its inputs.

The condition number says how much a relative change of 2^-k in each number that goes in can move
the result: for one element of the output, the sum over all inputs x of |d output/d x| |x|, relative
to the largest output. It belongs to the formula and the inputs, not to any way of computing it, and
comes from PyTorch's derivatives of the reference, for elements spread over the output.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from archsim.references import Oracle
from archsim.torch_attention import Given
from archsim.verification_inputs import Case
from einsum_cascade.cascade import Cascade

Array = NDArray[Any]
# Elements of an output whose derivatives are taken.
ELEMENTS = 20
DTYPES = {"float64": torch.float64, "float32": torch.float32, "bf16": torch.bfloat16}


def reference(
    cascade: Cascade, oracle: Oracle, case: Case, dtype: str = "float64"
) -> dict[str, Array]:
    """Compute a case with PyTorch; heads one by one where there are several.

    Returns:
        Arrays as the cascade gives them, in float64; computed in `dtype`.
    """
    with _one_thread():
        found = [
            _outputs(cascade, oracle, case, _tensors(arrays, dtype)) for arrays in _heads(case)
        ]
    results = [{name: value.double().numpy() for name, value in one.items()} for one in found]
    if not case.grouped:
        return results[0]
    return {name: np.stack([one[name] for one in results]) for name in results[0]}


def condition(cascade: Cascade, oracle: Oracle, case: Case) -> float:
    """Return the condition number of the formula at these inputs (module docstring).

    Heads are numbers of the same kind: the first one stands for all.
    """
    with _one_thread():
        return _condition(cascade, oracle, case, next(_heads(case)))


@contextmanager
def _one_thread() -> Iterator[None]:
    """Arrays this small are computed thirty times faster by one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _heads(case: Case) -> Iterator[Mapping[str, Array]]:
    """The arrays of each head: two heads of queries share one of everything else."""
    if not case.grouped:
        yield case.arrays
        return
    heads = max(len(array) for array in case.arrays.values())
    for head in range(heads):
        yield {name: array[head * len(array) // heads] for name, array in case.arrays.items()}


def _tensors(arrays: Mapping[str, Array], dtype: str) -> dict[str, Any]:
    kind = DTYPES[dtype]
    return {
        name: torch.from_numpy(np.array(array, dtype=np.float64)).to(kind)
        for name, array in arrays.items()
    }


def _outputs(
    cascade: Cascade, oracle: Oracle, case: Case, tensors: Mapping[str, Any]
) -> dict[str, Any]:
    module, name = oracle.function.split(".")
    compute = getattr(import_module(f"archsim.{module}"), name)
    own = {key: value for key, value in cascade.parameters if value is not None}
    found: dict[str, Any] = compute(Given(tensors, case.ranks, {**own, **case.parameters}))
    return found


def _condition(cascade: Cascade, oracle: Oracle, case: Case, arrays: Mapping[str, Array]) -> float:
    tensors = _tensors(arrays, "float64")
    for tensor in tensors.values():
        tensor.requires_grad_()
    inputs = list(tensors.values())
    sizes = [np.nan_to_num(np.abs(np.asarray(arrays[name])), posinf=0.0) for name in tensors]
    largest = 0.0
    for output in _outputs(cascade, oracle, case, tensors).values():
        scale = float(output.detach().abs().max()) if output.numel() else 0.0
        if not scale or not output.requires_grad:
            continue
        flat = output.flatten()
        for element in flat[:: -(-len(flat) // ELEMENTS)]:
            slopes = torch.autograd.grad(element, inputs, retain_graph=True, allow_unused=True)
            total = sum(
                float(np.nansum(np.abs(slope.numpy()) * size))
                for slope, size in zip(slopes, sizes, strict=True)
                if slope is not None
            )
            largest = max(largest, total / scale)
    return largest
