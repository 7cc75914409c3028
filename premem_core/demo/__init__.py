"""Demo: a small study made from nothing, which shows every page without a GPU.

Word problems are generated (`word_problems.py`), a small model is pretrained on them
(`pretraining.py`), then fine-tuned and scored in several settings (`demo_study.py`, where to
begin). The finished study is shipped in `data/demo`.
"""
