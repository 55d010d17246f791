"""Trainers: one file a method of solving runs, one table that chooses."""
