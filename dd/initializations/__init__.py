"""Laws of the trained weights at the start: one file each."""
