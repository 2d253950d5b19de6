"""A worker of the same protocol that trains nothing: what a run does stands in its id."""

import json
import os
import sys
import time
from pathlib import Path

from causalmix.run.record import Record, write_record


def main() -> None:
    start = json.loads(sys.stdin.readline())
    for line in sys.stdin:
        for run_id in json.loads(line)["run_ids"]:
            folder = Path(start["sweep"]) / "runs" / run_id
            folder.mkdir(parents=True, exist_ok=True)
            with (folder / "attempts").open("a") as attempts:
                attempts.write(f"{os.getpid()}\n")
            first = len((folder / "attempts").read_text().split()) == 1
            if run_id.startswith("dies") or (run_id.startswith("once") and first):
                os.kill(os.getpid(), 9)
            if run_id.startswith("exits"):
                os._exit(3)
            if run_id.startswith("slow"):
                time.sleep(60)
            record = Record(run_id, "complete", row={"outcome.avg_dev": 1.0, "wall_s": 0.1})
            if run_id.startswith("fails"):
                record = Record(run_id, "failed", cause="as asked")
            if not run_id.startswith("lost"):
                write_record(folder, record)
            if run_id.startswith("mute"):
                os._exit(0)  # between the record and the answer
            status = "lost" if run_id.startswith("lost") else record.status
            print(json.dumps({"run_id": run_id, "status": status, "cause": record.cause}), flush=True)


main()
