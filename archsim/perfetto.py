"""A recorded run as a trace that https://ui.perfetto.dev and chrome://tracing open.

The Chrome trace event format, JSON: a process for each array, for the buffer and for the outer
memory; a track for each task of an array, one for its idle slots, and one for the memory channel;
arrows from what makes a value to what reads it; counters for words that wait, bytes in the buffer
and the bandwidth in use. One microsecond of the trace is one cycle, since the format knows no
cycles; slot s is the microsecond from s - 1 to s, at column 0.
"""

from __future__ import annotations

import gzip
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from archsim.granules import TICKS
from archsim.program import Program
from archsim.recording import Levels, Part, Recording
from archsim.timeline import Fact

Event = dict[str, Any]
# Order of events at the same time: slices first, so that arrows find them.
ORDER = "MXsfC"
RUN, IDLE, CHANNEL = "run", "idle", "moves"


def trace_events(recording: Recording) -> list[Event]:
    """Every event of a trace: names of tracks first, then by time."""
    tracks = _Tracks(recording)
    events: list[Event] = []
    arrows = 0
    for number, part in enumerate(recording.parts, 1):
        if part.cycles:
            events.append(_phase(tracks, part, number, len(recording.parts)))
        events += _slices(tracks, part)
        events += _moves(tracks, part)
        events += _counters(tracks, part)
        for flow in part.flows:
            arrows += 1
            one = {"name": flow.maker, "cat": "value", "id": arrows}
            start = {"ph": "s", "ts": part.offset + flow.made, **tracks.of(flow.maker)}
            end = {"ph": "f", "bp": "e", "ts": part.offset + flow.read, **tracks.of(flow.reader)}
            events += [one | start, one | end]
    events.sort(key=lambda event: (event["ts"], ORDER.index(event["ph"])))
    return [*tracks.names(), *events]


def write_trace(recording: Recording, path: Path) -> None:
    """Write a trace, compressed; the same file from run to run."""
    other = {key: str(value) for key, value in _about(recording).items()}
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding="utf-8") as out,
    ):
        out.write(f'{{"displayTimeUnit": "ns", "otherData": {json.dumps(other)},\n"traceEvents": [')
        for number, event in enumerate(trace_events(recording)):
            out.write(",\n" if number else "\n")
            out.write(json.dumps(event, separators=(",", ":")))
        out.write("\n]}\n")


def _about(recording: Recording) -> dict[str, object]:
    """What a trace says about itself."""
    import einsum_cascade

    architecture = recording.parts[0].program.architecture
    return {
        "run": recording.name,
        "shows": recording,
        "time": f"1 us is 1 cycle of {architecture.clock_hz / 1e6:g} MHz",
        "cycles": recording.cycles,
        "cycles shown": sum(part.cycles for part in recording.parts),
        "clock_hz": architecture.clock_hz,
        "slices": "issue slots at column 0; PE (r, c) follows row hop * r + c cycles later",
        "einsum-archsim": einsum_cascade.__version__,
    }


class _Tracks:
    """Processes and threads by name, and which of them a task or move is on."""

    def __init__(self, recording: Recording) -> None:
        architecture = recording.parts[0].program.architecture
        self.memory = architecture.outer.name
        self.buffer = architecture.buffer.name if architecture.buffer else "buffer"
        self.threads: dict[str, list[str]] = {RUN: ["phases"]}
        self.unit: dict[str, str] = {}
        for part in recording.parts:
            for body in part.program.bodies:
                listed = self.threads.setdefault(body.unit, [])
                for item in body.items:
                    if item.task not in listed:
                        listed.append(item.task)
                    self.unit[item.task] = body.unit
        for unit, listed in self.threads.items():
            if unit != RUN:
                listed.append(IDLE)
        self.threads[self.buffer] = []
        self.threads[self.memory] = [CHANNEL]
        self.pids = {name: pid for pid, name in enumerate(self.threads, 1)}

    def on(self, process: str, thread: str) -> Event:
        """A track."""
        return {"pid": self.pids[process], "tid": self.threads[process].index(thread) + 1}

    def of(self, name: str) -> Event:
        """The track of a task, or of the moves."""
        if name in self.unit:
            return self.on(self.unit[name], name)
        return self.on(self.memory, CHANNEL)

    def counter(self, process: str) -> Event:
        """Where the counters of a process are."""
        return {"pid": self.pids[process], "tid": 0}

    def names(self) -> Iterator[Event]:
        """Events that name and sort the tracks."""

        def named(kind: str, where: Event, args: Event) -> Event:
            return {"ph": "M", "name": kind, "ts": 0, **where, "args": args}

        for process, threads in self.threads.items():
            here = self.counter(process)
            yield named("process_name", here, {"name": process})
            yield named("process_sort_index", here, {"sort_index": here["pid"]})
            for thread in threads:
                where = self.on(process, thread)
                yield named("thread_name", where, {"name": thread})
                yield named("thread_sort_index", where, {"sort_index": where["tid"]})


def _slice(name: str, kind: str, start: float, end: float, where: Event, args: Event) -> Event:
    event = {"ph": "X", "name": name, "cat": kind, "ts": start, "dur": end - start}
    return event | where | {"args": args}


def _phase(tracks: _Tracks, part: Part, number: int, phases: int) -> Event:
    cascade = part.program.cascade
    args = {
        "computes": ", ".join(cascade.outputs),
        "cycles": part.timeline.cycles,
        "cycles shown": part.cycles,
    }
    name = f"phase {number}: {args['computes']}" if phases > 1 else part.program.name
    where = tracks.on(RUN, "phases")
    return _slice(name, "phase", part.offset, part.offset + part.cycles, where, args)


def _slices(tracks: _Tracks, part: Part) -> Iterator[Event]:
    """A slice for each fact, and for each stretch of idle slots."""
    program = part.run.program
    for fact in part.facts:
        start = part.offset + fact.first - 1
        end = part.offset + fact.slots[-1]
        yield _slice(fact.task, "task", start, end, tracks.of(fact.task), _of_fact(program, fact))
    for gap in part.gaps:
        start = part.offset + gap.first - 1
        where = tracks.on(gap.unit, IDLE)
        yield _slice(gap.cause, "idle", start, start + gap.count, where, {"slots": gap.count})


def _of_fact(program: Program, fact: Fact) -> Event:
    tile = program.tiles[fact.tile]
    args: Event = {
        "einsum": program.task(fact.task).text,
        "tile": fact.tile,
        **{f"tile {loop}": coordinate for loop, coordinate in tile.at},
        "first slot": fact.first,
        "slots": fact.count,
        "stride": fact.stride,
    }
    if fact.idle:
        args |= {"idle before": fact.idle, "waited for": fact.cause}
    return args


def _moves(tracks: _Tracks, part: Part) -> Iterator[Event]:
    """A slice for each granule while it is on the channel."""
    for one in part.transfers:
        granule = one.granule
        args = {
            "granule": granule.number,
            "bytes": granule.bytes,
            "first tile": granule.tiles[0],
            "last tile": granule.tiles[-1],
        }
        start, end = part.offset + one.start, part.offset + one.end
        where = tracks.on(tracks.memory, CHANNEL)
        yield _slice(granule.move.name, "move", start, end, where, args)


def _counters(tracks: _Tracks, part: Part) -> Iterator[Event]:
    """Words that wait, bytes in the buffer, bytes a cycle on the channel; each ends with 0."""
    program = part.program
    found: list[tuple[str, str, str, Levels]] = []
    for fifo, levels in part.fifos.items():
        tensor, _, where = fifo.partition("@")
        # Landed words wait below the array, returned ones above it.
        unit = program.lanes.name if where == "landing" else program.array.name
        found.append((unit, f"{tensor} {where}", "words", levels))
    for tensor, levels in part.buffer.items():
        found.append((tracks.buffer, tensor, "bytes", levels))
    found.append((tracks.memory, "bandwidth", "bytes per cycle", _rates(part)))
    for process, name, unit, levels in found:
        where_ = tracks.counter(process)
        end = () if not levels[-1][1] else ((part.cycles, 0),)
        for time, level in (*levels, *end):
            event = {"ph": "C", "name": name, "ts": part.offset + time, **where_}
            yield event | {"args": {unit: level}}


def _rates(part: Part) -> Levels:
    """Bytes that cross the memory channel in a cycle, from when on."""
    found: list[tuple[float, float]] = [(0, 0)]
    now = 0.0
    for one in part.transfers:
        if one.start > now and found[-1][1]:
            found.append((now, 0))
        rate = one.granule.bytes * TICKS / one.granule.ticks
        if rate != found[-1][1]:
            found.append((one.start, rate))
        now = one.end
    return (*found, (now, 0))


__all__ = ["trace_events", "write_trace"]
