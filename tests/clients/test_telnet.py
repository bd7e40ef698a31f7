"""A session typed by hand: telnet in a terminal, and what a person sees on the screen."""

import os
import pty
import select
import subprocess
import time

import pytest

REPLY_SECONDS_MAX = 10


class Terminal:
    """A telnet in a terminal of its own. A reply is awaited before the next line is typed."""

    def __init__(self, telnet, server):
        self._keyboard, screen = pty.openpty()
        self._process = subprocess.Popen(
            [telnet, server.host, str(server.port)],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            start_new_session=True,
            env={**os.environ, "TERM": "dumb", "LC_ALL": "C"},
        )
        os.close(screen)
        self.screen = ""
        self._seen = 0

    def types(self, line):
        os.write(self._keyboard, line.encode() + b"\n")

    def sees(self, text):
        """Waits until the text appears below what was seen before; gives what came up to its end."""
        deadline = time.monotonic() + REPLY_SECONDS_MAX
        while text not in self.screen[self._seen :]:
            ready, _, _ = select.select([self._keyboard], [], [], max(0, deadline - time.monotonic()))
            try:
                more = os.read(self._keyboard, 65_536) if ready else b""
            except OSError:
                # Linux says EIO when the program at the other end of the terminal has gone.
                more = b""
            if not more:
                pytest.fail(f"{text!r} did not appear; the screen shows:\n{self.screen}")
            self.screen += more.decode().replace("\r", "")
        end = self.screen.index(text, self._seen) + len(text)
        seen, self._seen = self.screen[self._seen : end], end
        return seen

    def asks(self, line, reply, *data):
        """Types a line, and its data if there is any, and sees exactly this reply follow."""
        self.types(line)
        self.sees(line + "\n")
        for text in data:
            self.types(text)
            self.sees(text + "\n")
        assert self.sees(reply + "\n") == reply + "\n", self.screen

    def status(self):
        return self._process.wait(REPLY_SECONDS_MAX)

    def close(self):
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._keyboard)


@pytest.fixture
def terminal(server, program):
    terminal = Terminal(program("telnet", "inetutils-telnet"), server)
    try:
        terminal.sees("Connected to ")
        terminal.sees("Escape character is '^]'.\n")
        yield terminal
    finally:
        terminal.close()


def test_values_are_set_and_read_back(terminal):
    terminal.asks("set greeting 0 0 5", "STORED", "hello")
    terminal.asks("get greeting", "VALUE greeting 0 5\nhello\nEND")
    terminal.asks("add greeting 0 0 3", "NOT_STORED", "bye")
    terminal.asks("replace greeting 7 60 3", "STORED", "bye")
    terminal.asks("append greeting 0 0 5", "STORED", "-bye!")
    terminal.asks("prepend greeting 0 0 2", "STORED", "- ")
    terminal.asks(
        "get greeting nothing greeting",
        "VALUE greeting 7 10\n- bye-bye!\nVALUE greeting 7 10\n- bye-bye!\nEND",
    )
    terminal.asks("touch greeting 100", "TOUCHED")
    terminal.asks("gat 100 greeting", "VALUE greeting 7 10\n- bye-bye!\nEND")
    terminal.asks("delete greeting", "DELETED")
    terminal.asks("delete greeting", "NOT_FOUND")
    terminal.asks("get greeting", "END")


def test_cas_stores_once_per_version(terminal):
    terminal.asks("set page 0 0 5", "STORED", "draft")
    terminal.types("gets page")
    version = int(terminal.sees("END\n").splitlines()[1].split()[4])
    terminal.asks(f"cas page 0 0 5 {version}", "STORED", "final")
    terminal.asks(f"cas page 0 0 5 {version}", "EXISTS", "again")
    terminal.asks(f"cas nothing 0 0 5 {version}", "NOT_FOUND", "again")
    terminal.asks("get page", "VALUE page 0 5\nfinal\nEND")


def test_counters_count(terminal):
    terminal.asks("incr visits 1", "NOT_FOUND")
    terminal.asks("set visits 0 0 1", "STORED", "9")
    terminal.asks("incr visits 1", "10")
    terminal.asks("incr visits 5", "15")
    terminal.asks("decr visits 100", "0")
    terminal.asks("incr visits one", "CLIENT_ERROR invalid numeric delta argument")
    terminal.asks("set visits 0 0 4", "STORED", "many")
    terminal.asks("incr visits 1", "CLIENT_ERROR cannot increment or decrement non-numeric value")


def test_a_slip_is_answered_and_forgiven(terminal):
    terminal.asks("hello", "ERROR")
    terminal.asks("GET greeting", "ERROR")
    terminal.asks("set greeting 0 0 many", "CLIENT_ERROR bad command line format")
    # One character too many, and a new line typed to be sure.
    terminal.asks("set greeting 0 0 5", "CLIENT_ERROR bad data chunk", "hello!")
    terminal.types("")
    terminal.types("version")
    terminal.sees("VERSION ")
    terminal.sees("\n")
    terminal.asks("get greeting", "END")


def test_the_server_tells_about_itself(terminal, server):
    terminal.types("version")
    version = terminal.sees("VERSION ") and terminal.sees("\n").strip()
    assert version
    terminal.asks("set greeting 0 0 5", "STORED", "hello")
    terminal.types("stats")
    shown = dict(
        line.split(" ", 2)[1:] for line in terminal.sees("\nEND\n").splitlines() if line.startswith("STAT ")
    )
    assert (shown["pid"], shown["version"], shown["curr_items"]) == (str(server.pid), version, "1")
    assert "total_connections" in shown and "bytes" in shown
    terminal.types("stats settings")
    assert f"STAT maxbytes {64 * 1024 * 1024}\n" in terminal.sees("\nEND\n")
    terminal.asks("flush_all", "OK")
    terminal.asks("verbosity 0", "OK")
    terminal.asks("get greeting", "END")


def test_quit_ends_the_session(terminal):
    terminal.types("quit")
    terminal.sees("Connection closed by foreign host.\n")
    terminal.status()
