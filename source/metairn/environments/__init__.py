"""Environments whose ground-truth credit is known; importing this room registers all of them."""

from metairn.environments.adapters import register_tasks

register_tasks()
