"""One module a format: bytes to text, blocks and pages."""
