"""The crate `memcache` in packets: each scenario of memcache_crate/scenarios.rs against a server of its own."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("memcache_crate") / "scenarios.rs"
SCENARIOS = re.findall(r'^    \("(\w+)", \w+\),$', SOURCE.read_text(), re.MULTILINE)
RUN_SECONDS_MAX = 30
LOGS_IN = "logging_in"


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != LOGS_IN])
def test_scenario(server, scenario):
    run(server, scenario)


def test_logging_in(guarded):
    run(guarded, LOGS_IN)


def run(server, scenario):
    command = [os.environ["MEMCACHE_SCENARIOS"], scenario, server.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    assert (done.returncode, done.stdout) == (0, f"{scenario} is through\n"), done.stderr
