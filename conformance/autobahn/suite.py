"""Runs the fuzzing client of the Autobahn test suite against `bowline ws-echo`, and tells the driver of each series.

The echoes come from the loop of the server's WebSockets, with its decoder and its writer. Standard library only: the tool
itself is a program for Python 2.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

# Series, its cases, and whether compression is offered and agreed to. Of the hundreds of cases with compression, which send
# a thousand messages each, some of every kind.
SERIES = [
    *((f"series {n}", [f"{n}.*"], False) for n in (1, 2, 3, 4, 5, 6, 7, 9, 10)),
    ("series 12, some of it", [f"12.{kind}.{case}" for kind in range(1, 6) for case in (1, 6, 11, 16)], True),
    ("series 13, some of it", [f"13.{kind}.{case}" for kind in range(1, 8) for case in (1, 7, 13)], True),
    ("series 1 to 7 where compression is on", [f"{n}.*" for n in range(1, 8)], True),
]

# Right, but later than the suite would like, with the reason.
LATE = {
    "6.4.3": "a frame is looked at when it is complete, and not while it trickles in",
    "6.4.4": "a frame is looked at when it is complete, and not while it trickles in",
}

# The suite asks for something that a server need not agree to: here, a smaller window of ours.
DECLINED = re.compile(r"13\.[356]\.\d+")

START_TIMEOUT = 15


def scenario(name: str, outcome: str, seconds: float, detail: str) -> None:
    print("\n::scenario " + json.dumps({"name": name, "outcome": outcome, "seconds": seconds, "detail": detail}), flush=True)


class Echoes:
    """A running `bowline ws-echo`."""

    def __init__(self, compression: bool):
        command = [os.environ["BOWLINE_BIN"], "ws-echo", "--port", "0", *(["--compression"] if compression else [])]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.url = self.process.stdout.readline().strip()

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(START_TIMEOUT)


def run(url: str, cases: list[str], directory: pathlib.Path) -> dict:
    """What the suite says of each case."""
    spec = directory / "spec.json"
    spec.write_text(json.dumps({
        "outdir": str(directory / "report"), "servers": [{"agent": "bowline", "url": url}], "cases": cases,
        "exclude-cases": [], "exclude-agent-cases": {},
    }))
    subprocess.run(
        [os.environ["BOWLINE_WSTEST"], "-m", "fuzzingclient", "-s", str(spec)], check=True, cwd=directory,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT,
    )
    return json.loads((directory / "report" / "index.json").read_text())["bowline"]


def is_right(case: str, said: dict) -> bool:
    behavior = said["behavior"]
    return said["behaviorClose"] in ("OK", "INFORMATIONAL") and (
        behavior in ("OK", "INFORMATIONAL")
        or behavior == "NON-STRICT" and case in LATE
        or behavior == "UNIMPLEMENTED" and DECLINED.fullmatch(case) is not None
    )


def main() -> int:
    pattern = sys.argv[1] if len(sys.argv) > 1 else ""
    failed = False
    for name, cases, compression in SERIES:
        if not re.search(pattern, name):
            continue
        began = time.monotonic()
        echoes = Echoes(compression)
        try:
            with tempfile.TemporaryDirectory(prefix="bowline-autobahn-") as directory:
                said = run(echoes.url, cases, pathlib.Path(directory))
            wrong = [f"{case}: {s['behavior']}, closing {s['behaviorClose']}" for case, s in said.items() if not is_right(case, s)]
        finally:
            code = echoes.stop()
        if code != 0:
            wrong.append(f"the server ended with exit code {code}")
        if not said:
            wrong.append("the suite ran no case")
        failed |= bool(wrong)
        outcome = "failed" if wrong else "passed"
        scenario(f"{name} ({len(said)} cases)", outcome, time.monotonic() - began, "\n".join(wrong))
    return failed


if __name__ == "__main__":
    sys.exit(main())
