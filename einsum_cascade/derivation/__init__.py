"""Cheaper cascades from a cascade: rewrites of reductions, each with a certificate.

A reduction whose map depends on the result of another reduction over the same rank has to wait
for it, which costs a pass. Where the map is a finite-dimensional function of that result, the
reduction can run along with it instead and be corrected whenever the result changes. `derive`
finds out where, writes the new cascade, and proves each step with a `Certificate` that an
independent checker verifies.
"""
