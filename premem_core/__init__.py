"""Pre-memorization train accuracy: scoring, storage, analysis (Kang et al., arXiv 2411.07681).
"""
