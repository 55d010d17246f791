"""Schedules of the step size: one file each."""
