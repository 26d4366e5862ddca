"""A store of completions, keyed by everything that can change the answer."""
