"""Worker processes: started, given packs, ended; and what they do with a pack."""
