"""Interactive figures: pure functions from arrays to `plotly` figures, light or dark."""
