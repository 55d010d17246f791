"""Predictions of random-matrix theory: pure functions of numbers."""
