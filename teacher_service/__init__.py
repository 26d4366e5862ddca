"""An OpenAI-compatible caching server in front of one teacher model."""
