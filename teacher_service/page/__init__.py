"""The page for people, at `/`: what the service does, and what its store holds."""
