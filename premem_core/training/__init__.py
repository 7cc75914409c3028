"""Training: fine-tuning by the paper's recipe, which saves a checkpoint per epoch.

Begin with `finetune.py`.
"""
