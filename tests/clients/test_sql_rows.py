"""Rows of SQL queries kept for a minute under a hash of the query, as the manuals of databases teach."""

import hashlib
import pickle
import sqlite3
import time

import pytest
from pymemcache.exceptions import MemcacheServerError

ROWS_SECONDS = 60


class CachedDatabase:
    """Reads through the cache; a write forgets the queries that read the tables it changes.

    A cache cannot be asked for "all queries of this table", so each table has a version, which is part of the
    key of every query that reads it: a write moves the version on.
    """

    def __init__(self, database, cache):
        self.database = database
        self.cache = cache
        self.queries = 0

    def rows(self, tables, statement, *values):
        key = self._key(tables, statement, values)
        found = self.cache.get(key)
        if found is not None:
            return pickle.loads(found)
        self.queries += 1
        rows = self.database.execute(statement, values).fetchall()
        try:
            self.cache.set(key, pickle.dumps(rows), expire=ROWS_SECONDS)
        except MemcacheServerError:
            # Too large a result is only slow, not wrong.
            pass
        return rows

    def write(self, table, statement, *values):
        with self.database:
            self.database.execute(statement, values)
        if self.cache.incr(f"version:{table}", 1) is None:
            self.cache.add(f"version:{table}", "1")

    def _key(self, tables, statement, values):
        found = self.cache.get_many([f"version:{table}" for table in tables])
        versions = [found.get(f"version:{table}", b"0").strip() for table in tables]
        return "sql:" + hashlib.sha256(repr((versions, statement, values)).encode()).hexdigest()


FILMS = "SELECT title, year FROM film WHERE year < ? ORDER BY year, title"


@pytest.fixture
def cache(server, connect):
    return connect(server)


@pytest.fixture
def films(cache):
    database = sqlite3.connect(":memory:")
    database.executescript("""
        CREATE TABLE film (title TEXT, year INTEGER, rating REAL, poster BLOB);
        INSERT INTO film VALUES ('Metropolis', 1927, 8.3, NULL), ('Playtime', 1967, 7.9, X'0D0A00FF'),
            ('Amélie', 2001, 8.3, X'');
        CREATE TABLE seat (number INTEGER);
        INSERT INTO seat VALUES (1), (2);
    """)
    yield CachedDatabase(database, cache)
    database.close()


def test_the_second_query_is_served_from_the_cache(films):
    expected = [("Metropolis", 1927), ("Playtime", 1967)]
    assert films.rows(["film"], FILMS, 2000) == expected
    # Behind the cache's back, as another program might.
    films.database.execute("DELETE FROM film WHERE title = 'Metropolis'")
    assert films.rows(["film"], FILMS, 2000) == expected
    assert films.queries == 1


def test_a_write_through_the_cache_is_seen_at_once(films):
    films.rows(["film"], FILMS, 2000)
    for number in range(12):
        films.write("film", "INSERT INTO film (title, year) VALUES (?, 1950)", f"Sequel {number:02}")
        rows = films.rows(["film"], FILMS, 2000)
        assert (f"Sequel {number:02}", 1950) in rows
        assert len(rows) == 3 + number
    assert films.queries == 13


def test_a_write_to_one_table_leaves_the_others_cached(films):
    seats = "SELECT count(*) FROM seat"
    both = "SELECT count(*) FROM seat, film"
    assert films.rows(["seat"], seats) == [(2,)]
    assert films.rows(["film", "seat"], both) == [(6,)]
    films.write("film", "DELETE FROM film WHERE year = ?", 1927)
    assert films.rows(["seat"], seats) == [(2,)]
    assert films.queries == 2
    assert films.rows(["film", "seat"], both) == [(4,)]
    assert films.queries == 3


def test_the_same_statement_with_other_values_is_another_query(films):
    assert len(films.rows(["film"], FILMS, 2000)) == 2
    assert len(films.rows(["film"], FILMS, 2010)) == 3
    assert len(films.rows(["film"], FILMS, 2000)) == 2
    assert films.queries == 2


def test_no_rows_are_an_answer_too(films):
    assert films.rows(["film"], FILMS, 1900) == []
    assert films.rows(["film"], FILMS, 1900) == []
    assert films.queries == 1


def test_every_type_of_a_column_comes_back(films):
    statement = "SELECT * FROM film ORDER BY year"
    expected = [
        ("Metropolis", 1927, 8.3, None),
        ("Playtime", 1967, 7.9, b"\r\n\0\xff"),
        ("Amélie", 2001, 8.3, b""),
    ]
    assert films.rows(["film"], statement) == expected
    assert films.rows(["film"], statement) == expected
    assert films.queries == 1


def test_rows_are_asked_for_again_when_their_time_has_passed(films, monkeypatch):
    assert ROWS_SECONDS == 60  # as in the manuals; too long to wait for here
    monkeypatch.setitem(globals(), "ROWS_SECONDS", 1)
    films.rows(["film"], FILMS, 2000)
    films.rows(["film"], FILMS, 2000)
    assert films.queries == 1
    time.sleep(1.5)
    films.rows(["film"], FILMS, 2000)
    assert films.queries == 2


def test_too_large_a_result_is_asked_for_each_time(films):
    statement = "SELECT printf('%.2000000c', 'x')"
    for queries in [1, 2]:
        assert len(films.rows([], statement)[0][0]) == 2_000_000
        assert films.queries == queries
    assert len(films.rows(["film"], FILMS, 2000)) == 2
