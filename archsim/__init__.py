"""Where and when a cascade runs: architectures, mappings, cycles, bytes, energy and area."""
