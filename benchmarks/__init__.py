"""Benchmarks behind the figures of the README."""
