"""Question sets, metrics and reports that score retrieval and grounding. Imports rag and ingest."""
