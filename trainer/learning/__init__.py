"""What is learnt from it."""
