"""Benchmarks that print what they measured against; each is a library function with a command in front of it."""
