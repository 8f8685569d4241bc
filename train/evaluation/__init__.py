"""How good a model is: scores, metrics, calibration, baselines, cross-validation, report."""
