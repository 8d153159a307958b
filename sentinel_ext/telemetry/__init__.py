"""Metrics and logs; subscribers of decisions."""
