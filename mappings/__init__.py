"""Tile mappings that ship, as YAML data; not a place for code."""
