"""Timings of our own code as ratios within one run; `mome bench` prints them. No notebook needs them."""
