"""Numbers for the gates: one small interface, one file for each source. What is measured is judged in core."""
