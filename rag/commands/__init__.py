"""The commands of `rag`, one file for each kind; `rag/cli.py` puts them together."""
