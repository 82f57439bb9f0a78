"""Records to Plotly figures: each module gathers plain data with `gather` and draws it with `draw`."""
