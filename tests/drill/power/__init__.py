"""Cuts of the power under the embedded log and under a view."""

CUT = "power-cut"  # the name of a folder in the root of the file system: to make it cuts its power
