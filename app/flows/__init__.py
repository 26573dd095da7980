"""One story a file: the order of steps, the audit line, the message. No SQL, no HTTP."""
