"""A session typed by hand: telnet in a terminal, and what a person sees on the screen."""

import os
import pty
import re
import select
import subprocess
import time
from contextlib import closing

import pytest
from pymemcache.client.base import Client

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
def open_terminal(server, program):
    """Opens terminals on the server, as many as are wanted."""
    terminals = []

    def open_one():
        terminal = Terminal(program("telnet", "inetutils-telnet"), server)
        terminals.append(terminal)
        terminal.sees("Connected to ")
        terminal.sees("Escape character is '^]'.\n")
        return terminal

    try:
        yield open_one
    finally:
        for terminal in terminals:
            terminal.close()


@pytest.fixture
def terminal(open_terminal):
    return open_terminal()


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


def test_one_watches_what_another_does(open_terminal, server):
    watcher, worker = open_terminal(), open_terminal()
    watcher.asks("watch fetchers mutations", "OK")

    def sees(event):
        line = watcher.sees("\n").strip()
        shape = rf"ts=\d+\.\d{{6}} gid=\d+ {event} clsid=\d cfd=\d+ size=\d+"
        assert re.fullmatch(shape, line), f"{line!r} is not {shape!r}"

    worker.asks("get greeting", "END")
    sees("type=item_get key=greeting status=not_found")
    worker.asks("set greeting 0 60 5", "STORED", "hello")
    sees("type=item_get key=greeting status=not_found")
    sees("type=item_store key=greeting status=stored cmd=set ttl=60")
    worker.asks("get greeting", "VALUE greeting 0 5\nhello\nEND")
    sees("type=item_get key=greeting status=found")
    # Another program at the same time, with a key that has to be escaped.
    with closing(Client(server.address)) as client:
        client.set("greeting/de", b"hallo")
        assert client.add("greeting/de", b"hello", noreply=False) is False
    sees("type=item_get key=greeting%2Fde status=not_found")
    sees("type=item_store key=greeting%2Fde status=stored cmd=set ttl=0")
    sees("type=item_get key=greeting%2Fde status=found")
    sees("type=item_store key=greeting%2Fde status=not_stored cmd=add ttl=0")
    # Whoever watches is not asked anything more, but may leave.
    watcher.types("get greeting")
    watcher.sees("get greeting\n")
    worker.types("stats conns")
    assert ":state conn_watch\n" in worker.sees("\nEND\n")
    watcher.types("quit")
    watcher.sees("Connection closed by foreign host.\n")
    worker.asks("get greeting", "VALUE greeting 0 5\nhello\nEND")


def test_connections_and_deletions_are_watched(open_terminal):
    watcher = open_terminal()
    watcher.asks("watch connevents deletions", "OK")
    worker = open_terminal()
    address = watcher.sees("type=conn_new rip=127.0.0.1 rport=") and watcher.sees(" transport=tcp cfd=")
    descriptor = watcher.sees("\n").strip()
    worker.asks("set greeting 0 0 5", "STORED", "hello")
    worker.asks("delete greeting", "DELETED")
    watcher.sees("type=deleted key=greeting cmd=delete clsid=1 size=5\n")
    worker.types("quit")
    port = address.split()[0]
    watcher.sees(f"type=conn_close rip=127.0.0.1 rport={port} transport=tcp reason=normal cfd={descriptor}\n")


def test_quit_ends_the_session(terminal):
    terminal.types("quit")
    terminal.sees("Connection closed by foreign host.\n")
    terminal.status()
