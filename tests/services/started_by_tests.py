"""A process as the tests of `services.ops.starting` start it: it says what it is, and ends as its arguments ask."""

import os
import sys
import threading

if __name__ == "__main__":
    how = sys.argv[1]
    said = {
        "session": os.getsid(0) == os.getpid(),
        "numba": "numba" in sys.modules,
        "main": sys.modules["__main__"].__spec__.name if sys.modules["__main__"].__spec__ else "",
        "arguments": sys.argv[1:],
        "variable": os.environ.get("STARTED_BY", ""),
        "threads": threading.active_count(),
    }
    print(said, flush=True)
    if how == "exit":
        sys.exit(int(sys.argv[2]))
    elif how == "words":
        sys.exit("error: as was asked")
    elif how == "raise":
        raise RuntimeError("as was asked")
    elif how == "until_closed":
        while os.read(0, 100):
            pass
