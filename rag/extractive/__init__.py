"""Answers in the documents' own words: what is asked, and the sentences that say it."""
