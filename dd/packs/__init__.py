"""Packs: runs that are planned, solved and measured together."""
