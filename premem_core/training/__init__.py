"""Training: fine-tuning by the paper's recipe, which leaves a checkpoint per epoch.

Begin with `finetune.py`.
"""
