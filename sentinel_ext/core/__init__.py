"""Pure decisions: no I/O, no clock, no randomness; time is passed in."""
