"""What is counted of questions: the ledger, its statistics, spans and metrics."""
