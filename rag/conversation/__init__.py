"""Questions over several turns: follow-ups made to stand by themselves, and sessions on disk."""
