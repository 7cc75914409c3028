"""Pre-memorization train accuracy: scoring, storage and analysis (Kang et al., arXiv 2411.07681)."""
