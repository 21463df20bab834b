"""Data: records of data sets, and conversations and episodes as rows of token ids that a trainer can use."""
