"""What a mapping file may hold: its pydantic models, from which the JSON Schema comes, too."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel


@cache
def mapping_model() -> type[BaseModel]:
    """Return the pydantic model of a mapping file."""
    from pydantic import BaseModel, ConfigDict, Field, model_validator

    Variables = str | list[str]

    class PlacementFile(BaseModel):
        """Where an Einsum runs: `at: load`, or an array and what its axes unroll."""

        model_config = ConfigDict(extra="forbid", strict=True)
        at: str | None = Field(default=None, pattern="^load$")
        array: str | None = None
        rows: Variables | None = None
        cols: Variables | None = None
        lanes: Variables | None = None
        pipelined: list[list[str]] = Field(default_factory=list)

        @model_validator(mode="after")
        def one(self) -> PlacementFile:
            if (self.at is None) == (self.array is None):
                raise ValueError("give 'array: NAME', or 'at: load'")
            return self

    class LimitFile(BaseModel):
        """How much of the buffer the tiling may use."""

        model_config = ConfigDict(extra="forbid", strict=True)
        value: str
        source: str = ""
        status: str = Field(default="assumed", pattern="^(published|derived|fitted|assumed)$")
        note: str = ""

    class ChoicesFile(BaseModel):
        """A table of parameters by head size E and number of keys M."""

        model_config = ConfigDict(extra="forbid")
        source: str
        status: str = Field(default="published", pattern="^(published|derived|fitted|assumed)$")
        note: str = ""
        columns: list[str] = Field(min_length=3)
        rows: list[list[int | float]] = Field(min_length=1)

        @model_validator(mode="after")
        def shape(self) -> ChoicesFile:
            if self.columns[:2] != ["E", "M"]:
                raise ValueError("the first two columns are the keys E and M")
            if any(len(row) != len(self.columns) for row in self.rows):
                raise ValueError(f"every row has {len(self.columns)} values")
            return self

    class TrafficFile(BaseModel):
        """Words read and written per head, by tensor."""

        model_config = ConfigDict(extra="forbid", strict=True)
        read: dict[str, str]
        write: dict[str, str]

    class DefectFile(BaseModel):
        """Where a paper's energy accounting departs from what is right."""

        model_config = ConfigDict(extra="forbid")
        what: str
        source: str
        status: str = Field(pattern="^(published|derived|fitted|assumed)$")
        omits: list[str] = Field(default_factory=list, description="components left out")
        energy_pj: str | None = Field(default=None, description="formula, pJ per head")
        buffer_reads: str | None = Field(default=None, description="formula, words per head")
        from_keys: int = Field(default=0, description="number of keys from which it shows")

    class PublishedFile(BaseModel):
        """The closed form of a paper."""

        model_config = ConfigDict(extra="forbid", strict=True)
        source: str
        status: str = Field(default="published", pattern="^(published|derived|fitted|assumed)$")
        cycles: str | list[str]
        traffic: TrafficFile | None = None
        energy_defects: list[DefectFile] = Field(default_factory=list)

    class PhaseFile(BaseModel):
        """A phase: a list of Einsums, or `einsums:` and the keys in which it differs."""

        model_config = ConfigDict(
            extra="forbid",
            json_schema_extra=lambda schema: schema.update(
                anyOf=[
                    {"type": "array", "items": {"type": "string"}},
                    {key: schema.pop(key) for key in ("type", "properties", "required")},
                ]
            ),
        )
        einsums: list[str] = Field(min_length=1)
        partition: dict[str, str] | None = None
        tiles: dict[str, int | str] | None = None
        loops: list[str] | None = None
        buffer: dict[str, list[str]] | None = None
        double_buffered: list[str] | None = None
        order: dict[str, list[str]] | None = None
        drain: str | None = Field(default=None, pattern="^(never|head)$")

        @model_validator(mode="before")
        @classmethod
        def listed(cls, value: object) -> object:
            return {"einsums": value} if isinstance(value, list) else value

    class MappingFile(BaseModel):
        """How a cascade sits on an architecture."""

        model_config = ConfigDict(extra="forbid")
        name: str = Field(pattern=r"^[A-Za-z0-9_.-]+$")
        description: str = ""
        source: str = ""
        cascade: str | None = Field(
            default=None,
            description="cascade whose Einsums it places: shipped name, or path from this file",
        )
        partition: dict[str, str] = Field(default_factory=dict)
        tiles: dict[str, int | str] = Field(default_factory=dict)
        loops: list[str] = Field(default_factory=list)
        placement: dict[str, PlacementFile]
        buffer: dict[str, list[str]] = Field(default_factory=dict)
        double_buffered: list[str] = Field(default_factory=list)
        passing: list[str] = Field(default_factory=list)
        forwarded: dict[str, list[str]] = Field(default_factory=dict)
        buffer_limit: LimitFile | None = None
        phases: list[PhaseFile] = Field(
            default_factory=list, description="lists of Einsums, or einsums: with what differs"
        )
        spilled: dict[str, str] = Field(default_factory=dict)
        refetch: dict[str, str] = Field(default_factory=dict)
        choices: ChoicesFile | None = None
        published: PublishedFile | None = None
        order: dict[str, list[str]] = Field(
            default_factory=dict, description="by array: TASK lag N, | between tasks in turn"
        )
        drain: str = Field(default="never", pattern="^(never|head)$")

    return MappingFile
