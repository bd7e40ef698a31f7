"""PHP in packets of the binary protocol: its class Memcached, and the sessions it keeps."""

import json
import re
import subprocess
import time
from pathlib import Path

import pytest

SCENARIOS = Path(__file__).with_name("php_scenarios.php")
# Those that take a client and nothing else, or the address too.
SCENARIO = r"^function (\w+)\(Memcached \$client(?:, string \$address)?\): void"
NAMES = re.findall(SCENARIO, SCENARIOS.read_text(), re.MULTILINE)
LOGS_IN = "logging_in"
RUN_SECONDS_MAX = 30


@pytest.mark.parametrize("scenario", [name for name in NAMES if name != LOGS_IN])
def test_scenario(server, program, scenario):
    run(server, program, scenario)


def test_logging_in(guarded, program):
    run(guarded, program, LOGS_IN)


def run(server, program, scenario):
    command = [program("php", "php-cli"), SCENARIOS, scenario, server.name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=RUN_SECONDS_MAX)
    assert (done.returncode, done.stdout) == (0, f"{scenario} is through\n"), done.stderr


def page(server, program, code, *settings):
    """Starts a process that opens the session `visitor`, runs `code`, and tells as JSON whether it could open it, and
    what is in it. Settings that are not given are PHP's own; by those, sessions are in packets, locked, and last 1440 s."""
    settings = [
        "session.save_handler=memcached",
        f"session.save_path={server.name}",
        "session.use_cookies=0",
        "session.cache_limiter=",
        "display_errors=stderr",
        *settings,
    ]
    whole = f"""
        session_id("visitor");
        $opened = session_start();
        {code}
        $said = $_SESSION ?? null;
        session_write_close();
        echo json_encode([$opened, $said]);
    """
    options = [word for setting in settings for word in ("-d", setting)]
    command = [program("php", "php-cli"), *options, "-r", whole]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def shown(process):
    """What a page told, and what PHP complained of."""
    told, complaints = process.communicate(timeout=RUN_SECONDS_MAX)
    return json.loads(told), complaints


def test_a_session_is_written_by_one_process_and_read_by_others(server, program, connect):
    cart = {"user": "Ünï", "cart": [{"article": 7, "price": 2.5}], "text": "x" * 5000}
    fill = f"foreach (json_decode('{json.dumps(cart)}', true) as $name => $value) $_SESSION[$name] = $value;"
    assert shown(page(server, program, fill)) == ([True, cart], "")
    assert shown(page(server, program, "")) == ([True, cart], "")
    assert shown(page(server, program, "unset($_SESSION['cart'], $_SESSION['text']); $_SESSION['n'] = 1;"))[1] == ""
    assert shown(page(server, program, "")) == ([True, {"user": "Ünï", "n": 1}], "")
    # Where PHP's documentation says it is, with nobody holding its lock.
    client = connect(server)
    assert client.get("memc.sess.key.visitor").startswith(b"user|s:")
    assert client.get("memc.sess.key.lock.visitor") is None
    assert shown(page(server, program, "session_destroy();"))[1] == ""
    assert client.get("memc.sess.key.visitor") is None
    assert shown(page(server, program, "")) == ([True, []], "")


def test_pages_of_a_session_wait_for_each_other(server, program, connect, wait_until):
    count = "$_SESSION['n'] = ($_SESSION['n'] ?? 0) + 1;"
    client = connect(server)
    first = page(server, program, f"{count} usleep(400000);")
    wait_until(lambda: client.get("memc.sess.key.lock.visitor"), seconds_max=10, what="the lock of the first page")
    # Were it not for the lock, all would have found what the first one had not written yet.
    others = [page(server, program, count, "memcached.sess_lock_retries=100") for _ in range(4)]
    pages = [shown(one) for one in [first, *others]]
    assert pages[0] == ([True, {"n": 1}], "")
    assert sorted(found["n"] for (_, found), _ in pages) == [1, 2, 3, 4, 5]
    assert shown(page(server, program, count))[0] == [True, {"n": 6}]


def test_who_waits_in_vain_gets_no_session(server, program, connect, wait_until, tmp_path):
    go_on = tmp_path / "go-on"
    wait = f"while (!file_exists('{go_on}')) {{ usleep(10000); clearstatcache(); }}"
    first = page(server, program, f"$_SESSION['n'] = 1; {wait}")
    client = connect(server)
    wait_until(lambda: client.get("memc.sess.key.lock.visitor"), seconds_max=10, what="the lock of the first page")
    try:
        (opened, _), complaints = shown(page(server, program, "$_SESSION['n'] = 2;"))
    finally:
        go_on.touch()
    assert not opened and "session lock" in complaints
    assert shown(first) == ([True, {"n": 1}], "")
    assert shown(page(server, program, "")) == ([True, {"n": 1}], "")


def test_a_session_ends_when_nobody_opened_it_for_its_lifetime(server, program):
    def visit(code=""):
        return shown(page(server, program, code, "session.gc_maxlifetime=3"))[0]

    assert visit("$_SESSION['n'] = 1;") == [True, {"n": 1}]
    for _ in range(2):
        time.sleep(1.5)
        # Nothing in it changes: it is written, or touched, all the same.
        assert visit() == [True, {"n": 1}]
    time.sleep(3)
    assert visit() == [True, []]


def test_sessions_in_text(server, program):
    in_text = "memcached.sess_binary_protocol=0"
    assert shown(page(server, program, "$_SESSION['n'] = 1;", in_text)) == ([True, {"n": 1}], "")
    # What was written in text is read in packets, and the other way.
    assert shown(page(server, program, "$_SESSION['n'] += 1;")) == ([True, {"n": 2}], "")
    assert shown(page(server, program, "", in_text)) == ([True, {"n": 2}], "")


def test_sessions_of_who_logs_in(guarded, program):
    user = "memcached.sess_sasl_username=ann"
    ann = [user, "memcached.sess_sasl_password=sesame"]
    assert shown(page(guarded, program, "$_SESSION['n'] = 1;", *ann)) == ([True, {"n": 1}], "")
    assert shown(page(guarded, program, "", *ann)) == ([True, {"n": 1}], "")
    (opened, _), complaints = shown(page(guarded, program, "", user, "memcached.sess_sasl_password=wrong"))
    assert not opened and complaints
