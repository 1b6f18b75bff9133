"""From files in the formats people have to samples."""
