"""Run folders, statistics and figures: pandas and matplotlib, nothing that trains."""
