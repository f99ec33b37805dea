"""What a request cost, and the writing down of it: prices, the ledger's writer, reports."""
