"""What the teacher made of it."""
