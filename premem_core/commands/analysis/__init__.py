"""Commands that read scored runs: thresholds and R², predictions, robustness, other predictors."""
