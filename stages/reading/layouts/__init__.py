"""What a record's columns mean: from the layouts people have to plain samples, whatever file they lie in."""
