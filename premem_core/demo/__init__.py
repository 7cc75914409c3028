"""Demo: a small study that is made without any data or model, and shows every page without a GPU.

`word_problems.py` writes word problems, `pretraining.py` pretrains a small model, and
`demo_study.py` fine-tunes and scores it in several settings; begin there. The finished study is
shipped in `data/demo`.
"""
