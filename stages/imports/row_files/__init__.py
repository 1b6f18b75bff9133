"""Files of rows: what each kind of file is read by, and rows known by where they lie."""
