"""Recipes: how each thing is made from the others, as plain data. Nothing here loads torch before it builds
or opens.
"""
