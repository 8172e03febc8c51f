"""Servers to test against: nginx from Debian, and small ones of our own, each in a process of its own."""
