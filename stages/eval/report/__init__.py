"""The report: one HTML file with figures, curves and a sample of rows."""
