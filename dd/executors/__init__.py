"""Where packs are solved: in this process, or in worker processes."""
