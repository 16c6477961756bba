"""docs/cascades.md, made from the files of the cascades: `python tests/cascade_page.py` writes it.

Description, formula (the comment) and paper come from a cascade's own file, passes from the
analysis, references from the table of `archsim verify`.
"""

import textwrap
from importlib import resources
from pathlib import Path

import einsum_cascade as ec
from archsim.references import ORACLES

PAGE = Path(__file__).parents[1] / "docs" / "cascades.md"
FILES = Path(str(resources.files("einsum_cascade.workloads"))) / "cascades"
GROUPS = {
    "Softmax attention": (
        "softmax-3pass softmax-3pass-deferred softmax-2pass softmax-1pass softmax-1pass-fma "
        "softmax-split-k softmax-naive softmax-naive-deferred"
    ),
    "Masks and windows": (
        "causal-1pass causal-gqa-1pass window-1pass window-gqa-1pass sliding-window na-1d "
        "na-1d-dilated na-2d gna-1d gna-1d-gather gna-2d gna-2d-gather "
        "gna-2d-additional gna-3d gna-3d-gather "
        "block-diagonal hetero-window clear-disk"
    ),
    "Other logits, weights and keys": (
        "logit-bias alibi logit-softcap ssa-temperature qk-norm softmax-sink kv-bias "
        "razor-compensation group-scaled softmax-entropy sigmoid-attention sigmoid-norm "
        "relu-attention differential-attention"
    ),
    "Heads, latents, agents": (
        "decode-gqa head-scaled mla-latent mla-absorbed agent hopfield-2-iterations mil-gated-pool"
    ),
    "Keys chosen by the data": "topk-selected quest-page bra-biformer hierarchical-coarse-fine",
    "Linear attention": (
        "linear-attention linear-causal linear-decay-recurrent lightning2-chunked norm-linear "
        "linfusion cosformer performer based-taylor2 delta-rule flow-attention cross-covariance"
    ),
    "Not attention": "projection toy-two-pass toy-deferred toy-iterative",
}
INTRO = """# The shipped cascades

Every operator is one file of `workloads/cascades/`, in the language of
[language.md](language.md): `archsim list cascades` names them, and a path to a file of your own
goes wherever a name does. Queries are Q[e,p], keys K[e,m], values V[f,m], results AV[f,p], where a
paper has nothing else in mind; heads and batches are axes in front. Papers' projections,
convolutions and normalisations around an operator are left out.

**Passes** are those of inputs along the long rank ([passes.md](passes.md)), as the cascade is
written: K 3 means that keys come by three times, and 1-3 is an interval that data or sizes decide.
Most operators with 3 passes have 1 after `archsim derive NAME --reduce m`; a choice of keys, a
second softmax or a sum over queries prevents it.

**Reference** is what `archsim verify NAME` compares with: PyTorch's own attention wherever that
computes it, else the paper's formula in PyTorch, written without the cascade in view; linear
attention is compared with its quadratic form. Inputs are random ones and those that break kernels:
logits of 10,000 and of -inf, an outlier, ties, queries that see no key, no keys, ranks of length 1,
grouped heads, arrays that are not contiguous. Results are those of the interpreter and of compiled
kernels, in float64, float32 and hardware bf16. An error may be as large as the condition number of
the formula and the roundings on the way explain; what is left out is named, with the reason. Only
forward computations are compared.

This page is made from the files by `python tests/cascade_page.py`.
"""


def formula(name: str) -> str:
    """The comment of a cascade's file, as one paragraph."""
    lines = (FILES / f"{name}.yaml").read_text(encoding="utf-8").splitlines()
    return " ".join(line.removeprefix("# ").strip() for line in lines if line.startswith("# "))


def passes(name: str) -> str:
    """Passes of inputs along the rank that is long in practice."""
    cascade = ec.load(name)
    rank = next(rank for rank in ("M", "Y", "N", "K", "D") if rank in cascade.ranks)
    if cascade.concatenations:
        rank = cascade.concatenations[0][0]
    found = ec.passes(cascade, rank)
    numbers = [
        f"{tensor} {low}" + (f"-{found.upper[tensor]}" if found.upper[tensor] != low else "")
        for tensor, low in found.tensors.items()
        if tensor in cascade.inputs
    ]
    return f"{', '.join(numbers)} (over {rank})"


def page() -> str:
    """The whole page."""
    parts = [INTRO]
    for title, names in GROUPS.items():
        parts.append(f"\n## {title}\n")
        for name in names.split():
            cascade = ec.load(name)
            shown = textwrap.indent(textwrap.fill(formula(name), 100), "    ")
            parts.append(
                f"\n### {name}\n\n{cascade.description}\n\n{shown}\n\n"
                f"- Paper: {cascade.paper}\n- Passes: {passes(name)}\n"
                f"- Reference: {ORACLES[name].words}\n"
            )
    return "".join(parts)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
