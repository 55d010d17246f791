"""Solvers: from a stack of runs to their trained parameters."""
