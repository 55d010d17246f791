"""Runs: typed points of a sweep, their axes, scopes and keys."""
