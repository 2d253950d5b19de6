"""What a worker keeps warm."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from tests.tiny import make_environment

PROGRAM = """
import resource, sys
import numpy as np
from causalmix.run.workshop import Workshop

def count_faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        arrays = [np.ones(2**20) for _ in range(12)]  # 96 MB
        del arrays
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

if sys.argv[1] == "warm":
    Workshop()
count_faults()
print(count_faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_a_worker_keeps_what_a_batch_frees() -> None:
    faults = {}
    for kind in ("cold", "warm"):
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, kind], env=make_environment(), capture_output=True, text=True, check=True
        )
        faults[kind] = int(done.stdout)
    assert faults["warm"] < 1000 < faults["cold"]
