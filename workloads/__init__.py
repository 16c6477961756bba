"""Cascades and models that ship, as YAML data; not a place for code."""
