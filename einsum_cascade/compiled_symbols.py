"""Kernels behind symbols: generated functions call them through the address of a C function.

numba would compile a kernel once more inside every function that calls it. Here it is compiled
once, found on disk later, and called under a name that LLVM knows.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
from llvmlite import binding, ir
from numba import njit, types

# Bytes of lanes in one block, which is two vectors of AVX2.
BLOCK_BYTES = 64
# An array at a pointer; numba's stubs do not know it, and do not type the other.
carray: Any = numba.carray  # type: ignore[attr-defined]
pointer_to: Any = types.CPointer
_OPTIONS: Any = {"cache": True, "error_model": "numpy", "no_cpython_wrapper": True}


@dataclass(frozen=True, slots=True)
class Symbol:
    """A function of pointers and words, with the lanes of a block as a last word.

    That is an argument lest LLVM unrolls loops over lanes. `shape` has a letter for each other
    argument: an array of values from a place on (v), an array of words (p), a word (w), a flag (b).
    """

    name: str
    function: Any
    shape: str

    def install(self, dtype: str) -> None:
        """Compile it for a type of values, or find it on disk, and tell LLVM where it is."""
        real = {"float32": types.float32, "float64": types.float64}[dtype]
        word = types.int64
        kinds = {"v": pointer_to(real), "p": pointer_to(word), "w": word, "b": word}
        signature = (*(kinds[letter] for letter in self.shape), word)
        self.function.compile(signature)
        found = self.function.overloads[signature]
        address = found.library.get_pointer_to_function(found.fndesc.llvm_cfunc_wrapper_name)
        binding.add_symbol(self._name(real), address)

    def call(self, *given: Any) -> Any:
        """What an intrinsic returns that calls it: arrays of values are followed by a place."""
        kinds: list[Any] = []
        rest = iter(given)
        for letter in self.shape:
            kind = next(rest)
            kinds.append({"w": types.int64, "b": types.boolean}.get(letter, kind))
            if letter == "v":
                next(rest)
                kinds.append(types.int64)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            values: list[Any] = []
            rest = iter(zip(signature.args, arguments, strict=True))
            word = context.get_value_type(types.int64)
            for letter in self.shape:
                kind, value = next(rest)
                if letter in "vp":
                    value = context.make_array(kind)(context, builder, value=value).data
                if letter == "v":
                    value = builder.gep(value, [next(rest)[1]])
                values.append(builder.zext(value, word) if letter == "b" else value)
            real = signature.args[0].dtype
            values.append(ir.Constant(word, BLOCK_BYTES // (real.bitwidth // 8)))
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
            name = self._name(real)
            function = builder.module.globals.get(name) or ir.Function(builder.module, kind, name)
            builder.call(function, values)
            return context.get_dummy_value()

        return types.void(*kinds), generate

    def _name(self, real: Any) -> str:
        return f"einsum_cascade_{self.name}_{real}"


def behind(name: str, shape: str) -> Callable[[Callable[..., None]], Symbol]:
    """Put a function of pointers and words behind a symbol; see `Symbol`."""

    def symbol(function: Callable[..., None]) -> Symbol:
        return Symbol(name, njit(**_OPTIONS)(function), shape)

    return symbol
