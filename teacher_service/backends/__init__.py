"""Where completions come from: one module a backend, imported on demand."""
