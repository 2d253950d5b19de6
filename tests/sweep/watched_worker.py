"""A packed worker under an audit hook: what it unpickled, and CPU seconds until each run's training started."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

UNPICKLED: list[str] = []
STARTS: list[float] = []


def hear(event: str, arguments: tuple[object, ...]) -> None:
    if event == "pickle.find_class":
        UNPICKLED.append(f"{arguments[0]}.{arguments[1]}")


def main() -> int:
    report = Path(sys.argv.pop())
    sys.addaudithook(hear)
    from causalmix.run.diary import Diary
    from causalmix.sweep import packed

    note = Diary.note
    begun = 0.0

    def noted(diary: Diary, event: str, **details: object) -> None:
        nonlocal begun
        if event == "training_started":
            STARTS.append(time.process_time() - begun)
        note(diary, event, **details)

    execute = packed.Shift.execute

    def timed(shift: packed.Shift, *arguments: object) -> object:
        nonlocal begun
        begun = time.process_time()
        return execute(shift, *arguments)  # type: ignore[arg-type]

    Diary.note = noted  # type: ignore[method-assign]
    packed.Shift.execute = timed  # type: ignore[method-assign,assignment]
    status = packed.main()
    report.write_text(json.dumps({"unpickled": UNPICKLED, "starts": STARTS}))
    return status


if __name__ == "__main__":
    sys.exit(main())
