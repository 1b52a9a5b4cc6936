"""Answers over HTTP: one file for each feature, the page among them, and the guard before all."""
