"""From a question to a cited, checked answer: retrieve, pack, chat, ground. Imports ingest."""
