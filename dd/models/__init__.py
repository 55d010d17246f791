"""Model families over a leading ``runs`` axis: one file each."""
