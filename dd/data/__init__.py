"""Data sets and teachers: one file each, and the way from raw samples to a Problem.

A data set gives raw samples (:class:`dd.data._base.Pool`); :func:`dd.data._problem.load` splits, adds label noise
and standardises. Absent files are an error that names the fix, never a silent substitute.
"""
