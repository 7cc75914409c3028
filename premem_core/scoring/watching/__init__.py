"""Watching: a run is scored while it still trains.

A checkpoint is *kept* by links to its files, so that it outlives its deletion by the trainer, until
it is scored.
"""
