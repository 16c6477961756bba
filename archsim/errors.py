"""The exception of this package: bad architectures, mappings and requests, with their places."""

from __future__ import annotations

from einsum_cascade.errors import SourceError


class ArchError(SourceError):
    """An architecture, a mapping or the way they are put together is not legal."""
