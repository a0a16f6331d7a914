"""From files to a searchable store: load, chunk, embed, store. Knows nothing of rag or eval."""
