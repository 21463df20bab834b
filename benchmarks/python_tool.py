"""The isolated python tool: milliseconds to start an episode, and per call inside one."""

import time

from common import arguments, report, spread

from ferrule.tools.python import PythonSession


def main() -> None:
    """Open sessions one after another and time the first and the later calls."""
    options = arguments(__doc__ or "", episodes=20, calls=20)
    starts, calls = [], []
    for _ in range(options.episodes + 1):
        began = time.perf_counter()
        session = PythonSession()
        session.run("x = 1")
        starts.append(1000 * (time.perf_counter() - began))
        for _ in range(options.calls):
            began = time.perf_counter()
            session.run("x += 1\nx")
            calls.append(1000 * (time.perf_counter() - began))
        session.close()
    report("python_tool", {"start ms": spread(starts[1:]), "call ms": spread(calls[options.calls :])}, options.json)


if __name__ == "__main__":
    main()
