"""Many questions in one run: `rag batch`."""
