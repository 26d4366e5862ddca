"""One script for each number that the README quotes; run as `python -m benchmarks.NAME`."""
