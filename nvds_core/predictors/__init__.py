"""Single-image disparity predictors."""
