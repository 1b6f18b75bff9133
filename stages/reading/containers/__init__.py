"""How records are stored: files, folders and archives, each giving one mapping of names to values after the other."""
