"""The graders that Premem brings, one per file, and what they need: numbers, a sandbox, a file.

Each is a `Grader` (`grading/grader.py`) with two parts: finding the answers that a text states,
best first, and comparing one with the reference. `grading/graders.py` makes them by name.
"""
