"""Where tables can be exported to: one file a format, and what all of them write."""
