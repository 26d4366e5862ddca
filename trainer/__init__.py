"""REINFORCE for prompt compressors, with rewards from a teacher over HTTP."""
