"""Checking what was written: sentences, their citations, and what the passages support."""
