"""Runs a process of the release as its own supervisor would: with the arguments that the release has.

python as_released.py FOLDER SERVICE --mesh FILE --shard N ...
"""

import os
import sys

KNOWN = ("--mesh", "--shard")  # of 0.1.0; each has a value

folder, service, *arguments = sys.argv[1:]
pairs = zip(arguments[::2], arguments[1::2], strict=True)
kept = [word for name, value in pairs if name in KNOWN for word in (name, value)]
os.environ["PYTHONPATH"] = folder
os.execv(sys.executable, [sys.executable, "-P", "-m", service, *kept])
