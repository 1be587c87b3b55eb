"""What is claimed of speed is measured by these commands, on a database of their own.

Machines are noisy: figures come as medians over rounds, comparisons as ratios within one run.
"""
