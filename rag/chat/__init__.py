"""The chat API: the `ChatModel` seam and the client for OpenAI-compatible servers."""
