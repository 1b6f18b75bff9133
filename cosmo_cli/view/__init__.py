"""`cosmo view`: every row of any run folder in a browser, on this machine alone."""
