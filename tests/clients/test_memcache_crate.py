"""The crate `memcache` in packets: each scenario of memcache_crate/scenarios.rs against a server of its own."""

import os
import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("memcache_crate") / "scenarios.rs"
SCENARIOS = re.findall(r'^    \("(\w+)", \w+\),$', SOURCE.read_text(), re.MULTILINE)
RUN_SECONDS_MAX = 30


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_scenario(server, scenario):
    command = [os.environ["MEMCACHE_SCENARIOS"], scenario, server.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    assert (done.returncode, done.stdout) == (0, f"{scenario} is through\n"), done.stderr
