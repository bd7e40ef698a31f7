"""What README tells a newcomer to type, as it stands there."""

import contextlib
import io
import re
import socket
from pathlib import Path

README = (Path(__file__).parents[2] / "README.md").read_text()
WITH_VALUE = ("set", "add")
COMMANDS = (*WITH_VALUE, "get", "incr", "quit")


def part(name, language):
    return re.search(rf"<!-- {name} -->\n```{language}\n(.*?)```\n<!-- /{name} -->", README, re.DOTALL).group(1)


def test_the_lines_of_python_store_a_value(server):
    # Its port was chosen by the system.
    said = part("python", "python").replace('("127.0.0.1", 11211)', repr(server.address))
    assert str(server.port) in said
    names = {}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(said, names)
    names["cache"].close()
    assert printed.getvalue() == "b'hello'\n"


def test_the_session_goes_as_it_is_shown(server):
    shown = part("telnet", "text").splitlines()
    assert shown.pop(0) == "$ telnet 127.0.0.1 11211"
    is_value, replies = False, 0
    with socket.create_connection(server.address, timeout=10) as connection, connection.makefile("rwb") as stream:
        for line in shown:
            word = line.split()[0]
            if is_value or word in COMMANDS:
                stream.write(line.encode() + b"\r\n")
                is_value = not is_value and word in WITH_VALUE
                continue
            stream.flush()
            assert stream.readline() == line.encode() + b"\r\n"
            replies += 1
        stream.flush()
        assert stream.read() == b""
    assert replies > 5
