"""Language models of plain text: the next token, masked tokens, replaced tokens."""
