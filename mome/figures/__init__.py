"""Tidy tables in, figures out: every axis says its unit and which direction is better."""
