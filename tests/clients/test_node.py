"""node's clients `memcached`, in text, and `memjs`, in packets: each scenario against a server of its own."""

import re
import subprocess
from pathlib import Path

import pytest

RUN_SECONDS_MAX = 30
SCENARIOS = [
    (path.name, scenario)
    for path in sorted(Path(__file__).parent.glob("*_scenarios.js"))
    for scenario in re.findall(r"^scenarios\.(\w+) = ", path.read_text(), re.MULTILINE)
]
LOGS_IN = ("memjs_scenarios.js", "logging_in")


@pytest.mark.parametrize(("file", "scenario"), [one for one in SCENARIOS if one != LOGS_IN])
def test_scenario(server, program, file, scenario):
    run(server, program, file, scenario)


def test_logging_in(guarded, program):
    run(guarded, program, *LOGS_IN)


def run(server, program, file, scenario):
    command = [program("node", "nodejs"), Path(__file__).with_name(file), scenario, server.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    assert (done.returncode, done.stdout) == (0, f"{scenario} is through\n"), done.stderr
