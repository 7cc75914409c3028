"""Curation: makes a data set, and new problems, from the examples of scored runs.

A *strategy* gives each training example a value (pre-memorization accuracy, perplexity, IFD and
others). A *recipe* says which strategies, *quality gates* and budget make a *selection*; from
the same store it always builds the same one. A *collection plan* says which new problems to
write.

Begin with `strategies.py`, `recipe.py` and `selection.py`.
"""
