"""Algorithms, one file per family, found by `kepler.registry`.

Modules whose name begins with an underscore are what families share. Libraries are imported inside
`fit`, so that listing algorithms stays quick.
"""
