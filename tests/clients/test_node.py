"""node's client `memcached`: each scenario of node_scenarios.js against a server of its own."""

import re
import subprocess
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).with_name("node_scenarios.js")
RUN_SECONDS_MAX = 30


@pytest.mark.parametrize("scenario", re.findall(r"^scenarios\.(\w+) = ", SCENARIOS.read_text(), re.MULTILINE))
def test_scenario(server, program, scenario):
    command = [program("node", "nodejs"), SCENARIOS, scenario, server.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    assert (done.returncode, done.stdout) == (0, f"{scenario} is through\n"), done.stderr
