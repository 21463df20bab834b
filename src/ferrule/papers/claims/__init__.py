"""One study per paper, found by the paper's slug: ``STUDY`` in the module of the same name."""
