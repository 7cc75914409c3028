"""What several runs of one task say together: thresholds, R² and predictions of test accuracy.

A *study* is a set of runs with test accuracies, on which the threshold t is chosen. A run
*calibrates* where it takes part in such a choice.
"""
