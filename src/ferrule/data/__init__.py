"""Data: conversations and episodes as rows of token ids that a trainer can use."""
