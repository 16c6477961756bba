"""What a sweep file may hold: its pydantic models, from which the JSON Schema comes, too."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

if TYPE_CHECKING:
    from pydantic import BaseModel

Goal = Literal["min", "max"]
OBJECTIVES: dict[str, Goal] = {
    "latency_s": "min",
    "energy_pj.total": "min",
    "area_um2.total": "min",
}
# At level passes nothing has a latency.
WORDS: dict[str, Goal] = {"traffic_bytes.total": "min", "buffer_bytes.capacity": "min"}


@cache
def neighborhood_model() -> type[BaseModel]:
    """Return the pydantic model of `neighborhood`."""
    from pydantic import BaseModel, ConfigDict, Field

    Extents = str | int

    class NeighborhoodFile(BaseModel):
        """A layer of neighbourhood attention: tokens, windows and tiles, such as 64x64."""

        model_config = ConfigDict(extra="forbid", strict=True)
        shape: Extents
        window: Extents
        stride: Extents | None = None
        dilation: Extents | None = None
        causal: Extents | None = None
        q_tile: Extents | None = Field(default=None, description="default: computes least")
        kv_tile: Extents | None = Field(default=None, description="default: computes least")
        kv_tiling: Literal["static", "dynamic"] = "static"
        hold: int = Field(default=2, ge=2, description="key tiles in the buffer")

    return NeighborhoodFile


@cache
def numbers_model() -> type[BaseModel]:
    """Return the pydantic model of `numbers`."""
    from pydantic import BaseModel, ConfigDict, Field

    class NumbersFile(BaseModel):
        """Errors of hardware numbers against float64, on random inputs."""

        model_config = ConfigDict(extra="forbid", strict=True)
        format: Literal["bf16", "fp32"]
        exp: str | None = Field(default=None, description="unit for 2^x: poly3 ... poly7, ...")
        queries: int = Field(default=8, ge=1, description="queries that are computed")
        seed: int = Field(default=0, ge=0)

    return NumbersFile


@cache
def sweep_model() -> type[BaseModel]:
    """Return the pydantic model of a sweep file."""
    from pydantic import BaseModel, ConfigDict, Discriminator, Field, StrictInt, Tag

    Names = Annotated[
        Annotated[str, Tag("name")] | Annotated[list[str], Tag("names")],
        Discriminator(lambda given: "names" if isinstance(given, list) else "name"),
    ]

    class Powers(BaseModel):
        """Powers of two times the first value, up to the last: {log2: [64, 1024]}."""

        model_config = ConfigDict(extra="forbid")
        log2: list[StrictInt | str] = Field(min_length=2, max_length=2)

    class Steps(BaseModel):
        """From the first value to the last in equal steps: {range: [0, 100, 10]}."""

        model_config = ConfigDict(extra="forbid")
        range: list[StrictInt] = Field(min_length=3, max_length=3)

    def form(given: object) -> str | None:
        # A model that was read is asked, too, when it is turned into plain data.
        if isinstance(given, dict | BaseModel):
            keys = list(dict(given))
            forms = {"log2": "powers", "range": "steps"}
            return forms.get(keys[0]) if len(keys) == 1 else None
        return "list" if isinstance(given, list) else None

    Values = Annotated[
        Annotated[list[Any], Tag("list")]
        | Annotated[Powers, Tag("powers")]
        | Annotated[Steps, Tag("steps")],
        Discriminator(
            form,
            custom_error_type="values",
            custom_error_message="values are a list, {log2: [first, last]} or "
            "{range: [first, last, step]}",
        ),
    ]

    class SamplerFile(BaseModel):
        """Points that an optimizer chooses, instead of all."""

        model_config = ConfigDict(extra="forbid", strict=True)
        method: Literal["nsga2", "tpe"]
        points: int = Field(ge=1, description="how many points to try")
        batch: int = Field(default=32, ge=1, description="points chosen at a time")
        seed: int = Field(default=0, ge=0)

    class SweepFile(BaseModel):
        """A space of design points, and what to look for in it."""

        model_config = ConfigDict(extra="forbid")
        name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
        description: str = ""
        source: str = ""
        cascade: Names | None = Field(default=None, description="shipped names or paths")
        model: Names | None = Field(default=None, description="shipped names or paths")
        arch: Names | None = Field(default=None, description="shipped names or paths")
        mapping: Names | None = Field(default=None, description="shipped names or paths")
        sizes: dict[str, StrictInt] = Field(default_factory=dict)
        level: Literal["passes", "bound", "published", "tile"] = Field(
            default="tile",
            description="passes: words that must move, whatever the mapping; or as for `run`",
        )
        accounting: Literal["consistent", "paper"] = "consistent"
        # Models made on demand are values to mypy, not types.
        neighborhood: neighborhood_model() | None = None  # type: ignore[valid-type]
        numbers: numbers_model() | None = None  # type: ignore[valid-type]
        over: dict[str, Values] = Field(
            default_factory=dict, description="values by path; paths with a comma go together"
        )
        sampler: SamplerFile | None = Field(
            default=None, description="an optimizer, such as {method: nsga2, points: 500}"
        )
        objectives: dict[str, Goal] | None = Field(
            default=None,
            description=f"min or max by number; if left out {OBJECTIVES}; at level passes {WORDS}",
        )
        constraints: list[str] = Field(
            default_factory=list, description="a number of the report, <= or >=, a limit"
        )

    return SweepFile
