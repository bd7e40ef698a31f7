"""Java's client spymemcached in packets: each scenario of SpymemcachedScenarios.java against a server of its own."""

import re
import subprocess
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("SpymemcachedScenarios.java")
LIBRARY = "/usr/share/java/spymemcached.jar"
SCENARIOS = re.findall(r"^    void (\w+)\(\) ", SOURCE.read_text(), re.MULTILINE)
LOGS_IN = "logging_in"
RUN_SECONDS_MAX = 30


def run(*command):
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    directory = tmp_path_factory.mktemp("classes")
    run("javac", "-cp", LIBRARY, "-encoding", "UTF-8", "-d", directory, SOURCE)
    return directory


def run_scenario(server, compiled, scenario):
    classes = f"{compiled}:{LIBRARY}"
    # Compiled once by the simplest compiler: it is over before another pays.
    java = ["java", "-XX:TieredStopAtLevel=1", "-Xshare:auto", "-cp", classes, SOURCE.stem]
    assert run(*java, scenario, server.name) == f"{scenario} is through\n"


@pytest.mark.parametrize("scenario", [name for name in SCENARIOS if name != LOGS_IN])
def test_scenario(server, compiled, scenario):
    run_scenario(server, compiled, scenario)


def test_logging_in(guarded, compiled):
    run_scenario(guarded, compiled, LOGS_IN)
