"""Hydra configurations, found through the package."""
