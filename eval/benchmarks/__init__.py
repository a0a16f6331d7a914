"""Runnable measurements on public data, each given its data directory as an argument."""
