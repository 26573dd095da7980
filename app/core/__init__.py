"""One noun a file: its rules and its SQL. Knows no story, no HTTP."""
