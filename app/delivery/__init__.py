"""Messages: queued in the unit of work of their fact, sent by the courier after it."""
