"""Data sets and teachers: one file each; it gives raw samples (:class:`dd.components.dataset.Pool`).

:func:`dd.problems.problem.load` splits them, adds label noise and standardises. Absent files are an error that names
the fix, never a silent substitute.
"""
