"""What reaches the person and the next program: lines, tables, progress, in characters that are safe to show."""
