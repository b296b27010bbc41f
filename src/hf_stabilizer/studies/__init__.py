"""Repeat, compare, and tell the truth: studies over seeds."""
