"""Benchmarks for docs/figures.md."""
