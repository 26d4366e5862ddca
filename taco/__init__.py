"""The front door: one command for all of it."""
