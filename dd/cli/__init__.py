"""Command line and notebook: parse, compose, validate, report."""
