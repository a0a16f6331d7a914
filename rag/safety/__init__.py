"""What may leave for the chat API, and what may be asked and answered."""
