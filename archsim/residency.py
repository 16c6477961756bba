"""What names a granule of a tensor: the loops for whose coordinates it is fetched or stored."""

from __future__ import annotations

from archsim.mapping import Mapping


def granule_loops(mapping: Mapping, own: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Loops outside what a mapping holds of a tensor, and those of the tensor that it holds.

    A granule stays while loops inside go by, and is moved again for every loop outside that comes
    back to it: one that lies outside the last of the tensor's own loops outside its tile.

    Args:
        mapping: what is held on chip, and the loops over tiles.
        own: those of the loops that the tensor has.
        name: the tensor.
    """
    held = dict(mapping.held).get(name)
    if held is None:
        return own
    outside = [loop for loop in mapping.loops if loop not in held]
    last = max((i for i, loop in enumerate(outside) if loop in own), default=-1)
    again = outside[: last + 1]
    return tuple(loop for loop in mapping.loops if loop in again or (loop in own and loop in held))
