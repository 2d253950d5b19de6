"""Any command of ours under an audit hook: what it unpickled, and which files it opened below a folder.

python tests/sweep/watched_command.py REPORT FOLDER (launch.py | MODULE) ARGUMENTS...
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from pathlib import Path

UNPICKLED: list[str] = []
OPENED: list[str] = []


def main() -> None:
    report, folder, target = Path(sys.argv[1]), os.fspath(Path(sys.argv[2]).resolve()), sys.argv[3]
    sys.argv = sys.argv[3:]

    def hear(event: str, arguments: tuple[object, ...]) -> None:
        if event == "pickle.find_class":
            UNPICKLED.append(f"{arguments[0]}.{arguments[1]}")
        elif event == "open" and str(arguments[0]).startswith(folder):
            OPENED.append(str(arguments[0]))

    sys.addaudithook(hear)
    try:
        if target.endswith(".py"):
            runpy.run_path(target, run_name="__main__")
        else:
            runpy.run_module(target, run_name="__main__", alter_sys=True)
    finally:
        report.write_text(json.dumps({"unpickled": UNPICKLED, "opened": OPENED}))


if __name__ == "__main__":
    main()
