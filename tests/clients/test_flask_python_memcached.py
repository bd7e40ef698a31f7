"""A small shop written with Flask, whose pages are cached with python-memcached as its documentation teaches.

The shop runs in a real threaded WSGI server and is used over HTTP. python-memcached keeps one connection per
thread, so nearly every request comes to the cache by a new connection.
"""

import json
import threading
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import memcache
import pytest
from flask import Flask, jsonify, request
from werkzeug.serving import WSGIRequestHandler, make_server

PRODUCT_SECONDS = 2


@dataclass
class Product:
    """Pickled by the client: not a string, not a number."""

    name: str
    price_cents: int
    tags: tuple


class Warehouse:
    """Stands for the slow database: it counts how often it was asked."""

    def __init__(self):
        self.queries = 0
        self._lock = threading.Lock()
        self.prices = {"lamp": 4_500, "chair": 12_000, "rug": 8_050, "café crème": 350}

    def product(self, name):
        with self._lock:
            self.queries += 1
        return Product(name, self.prices[name], ("indoor", "sale"))


def shop(cache, warehouse):
    """The application."""
    app = Flask("shop")

    @app.get("/product/<name>")
    def product(name):
        key = "product:" + name.replace(" ", "_")
        found = cache.get(key)
        if found is None:
            found = warehouse.product(name)
            cache.set(key, found, time=PRODUCT_SECONDS)
        return jsonify(asdict(found))

    @app.get("/catalogue")
    def catalogue():
        names = request.args.getlist("name")
        found = cache.get_multi(names, key_prefix="catalogue:")
        cached = sorted(found)
        missing = {name: warehouse.product(name) for name in names if name not in found}
        if missing:
            assert cache.set_multi(missing, time=60, key_prefix="catalogue:") == []
        found.update(missing)
        return jsonify(cached=cached, prices={name: each.price_cents for name, each in found.items()})

    @app.delete("/catalogue")
    def forget_catalogue():
        done = cache.delete_multi(request.args.getlist("name"), key_prefix="catalogue:")
        return jsonify(done=bool(done))

    @app.post("/visits")
    def visit():
        cache.add("visits", 0)
        return jsonify(visits=cache.incr("visits"))

    @app.get("/visits")
    def visits():
        return jsonify(visits=cache.get("visits"))

    @app.post("/stock/<int:count>")
    def stock(count):
        cache.set("stock", count)
        return jsonify(stock=count)

    @app.post("/sold/<int:count>")
    def sold(count):
        return jsonify(stock=cache.decr("stock", count))

    @app.post("/reservation/<name>")
    def reserve(name):
        is_mine = cache.add("reservation:" + name, request.get_json()["who"], time=60)
        return jsonify(who=cache.get("reservation:" + name)), 201 if is_mine else 409

    @app.delete("/reservation/<name>")
    def release(name):
        return jsonify(released=bool(cache.delete("reservation:" + name)))

    @app.put("/notice")
    def notice():
        is_replaced = cache.replace("notice", request.get_json()["text"])
        return jsonify(text=cache.get("notice")), 200 if is_replaced else 404

    @app.post("/notice")
    def first_notice():
        cache.set("notice", request.get_json()["text"])
        return jsonify(text=cache.get("notice")), 201

    @app.post("/trail")
    def trail():
        cache.add("trail", "home")
        assert cache.append("trail", " > " + request.get_json()["page"])
        return jsonify(trail=cache.get("trail"))

    @app.post("/trail/start")
    def trail_start():
        is_there = cache.prepend("trail", request.get_json()["page"] + " > ")
        return jsonify(trail=cache.get("trail")), 200 if is_there else 404

    @app.put("/report")
    def report():
        assert cache.set("report", request.get_data(as_text=True), min_compress_len=1_000)
        return jsonify(stored=True)

    @app.get("/report")
    def read_report():
        return cache.get("report")

    @app.post("/session/<name>/keep")
    def keep_session(name):
        return jsonify(kept=bool(cache.touch("session:" + name, 60)))

    @app.post("/session/<name>")
    def open_session(name):
        return jsonify(opened=cache.set("session:" + name, {"cart": [1, 2]}, time=2))

    @app.get("/session/<name>")
    def session(name):
        return jsonify(session=cache.get("session:" + name))

    @app.post("/basket/<item>")
    def put_in_basket(item):
        cache.add("basket", [])
        for attempt in range(1, 1_000):
            basket = cache.gets("basket")
            if cache.cas("basket", basket + [item]):
                return jsonify(attempts=attempt)
        return jsonify(attempts=None), 503

    @app.get("/basket")
    def basket():
        return jsonify(basket=cache.get("basket"))

    @app.get("/status")
    def status():
        return jsonify(cache.get_stats())

    @app.delete("/cache")
    def forget_everything():
        cache.flush_all()
        return jsonify(done=True)

    return app


class QuietRequestHandler(WSGIRequestHandler):
    """Without the line per request."""

    def log(self, *_):
        pass


class Browser:
    """Visits the shop."""

    def __init__(self, address, warehouse):
        self.address = address
        self.warehouse = warehouse

    def __call__(self, method, path, body=None):
        """The status and the decoded answer."""
        headers = {}
        if body is not None:
            body, headers = json.dumps(body).encode(), {"Content-Type": "application/json"}
        return self.send(method, path, body, headers)

    def send(self, method, path, body, headers):
        call = urllib.request.Request(self.address + path, data=body, headers=headers, method=method)
        try:
            with urllib.request.urlopen(call, timeout=20) as answer:
                status, content_type, text = (
                    answer.status,
                    answer.headers["Content-Type"],
                    answer.read().decode(),
                )
        except urllib.error.HTTPError as error:
            status, content_type, text = error.code, error.headers["Content-Type"], error.read().decode()
        return status, json.loads(text) if content_type == "application/json" else text


@pytest.fixture
def browse(server):
    warehouse = Warehouse()
    cache = memcache.Client([server.name], cache_cas=True, socket_timeout=10)
    wsgi = make_server(
        "127.0.0.1", 0, shop(cache, warehouse), threaded=True, request_handler=QuietRequestHandler
    )
    thread = threading.Thread(target=wsgi.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield Browser(f"http://127.0.0.1:{wsgi.server_port}", warehouse)
    wsgi.shutdown()
    thread.join()
    wsgi.server_close()


def test_a_page_is_made_once_and_made_again_when_it_has_expired(browse, server, wait_until):
    lamp = {"name": "lamp", "price_cents": 4_500, "tags": ["indoor", "sale"]}
    assert browse("GET", "/product/lamp") == (200, lamp)
    assert browse("GET", "/product/lamp") == (200, lamp)
    assert browse.warehouse.queries == 1

    def is_made_again():
        browse("GET", "/product/lamp")
        return browse.warehouse.queries == 2

    seconds = wait_until(is_made_again, seconds_max=PRODUCT_SECONDS + 2, what="the page expires")
    if server.has_a_fine_clock:
        # Two requests lie between the store and the first look of `wait_until`.
        assert seconds > PRODUCT_SECONDS - 0.5


def test_a_key_may_be_utf_8(browse):
    for _ in range(2):
        status, product = browse("GET", "/product/caf%C3%A9%20cr%C3%A8me")
        assert (status, product["name"]) == (200, "café crème")
    assert browse.warehouse.queries == 1


def test_many_pages_come_and_go_at_once_under_a_prefix(browse):
    assert browse("GET", "/catalogue?name=lamp&name=rug") == (
        200,
        {"cached": [], "prices": {"lamp": 4_500, "rug": 8_050}},
    )
    _, page = browse("GET", "/catalogue?name=lamp&name=rug&name=chair")
    assert page == {"cached": ["lamp", "rug"], "prices": {"lamp": 4_500, "rug": 8_050, "chair": 12_000}}
    assert browse.warehouse.queries == 3
    assert browse("DELETE", "/catalogue?name=lamp&name=rug") == (200, {"done": True})
    _, page = browse("GET", "/catalogue?name=lamp&name=rug&name=chair")
    assert page["cached"] == ["chair"]


def test_no_visit_is_lost_when_visitors_come_together(browse):
    with ThreadPoolExecutor(8) as visitors:
        answers = list(visitors.map(lambda _: browse("POST", "/visits"), range(120)))
    assert sorted(body["visits"] for _, body in answers) == list(range(1, 121))
    assert browse("GET", "/visits") == (200, {"visits": 120})


def test_stock_stops_at_nothing(browse):
    assert browse("POST", "/sold/1") == (200, {"stock": None})
    browse("POST", "/stock/10")
    assert browse("POST", "/sold/3") == (200, {"stock": 7})
    assert browse("POST", "/sold/30") == (200, {"stock": 0})


def test_only_the_first_reservation_holds(browse):
    assert browse("POST", "/reservation/lamp", {"who": "ann"}) == (201, {"who": "ann"})
    assert browse("POST", "/reservation/lamp", {"who": "bob"}) == (409, {"who": "ann"})
    assert browse("DELETE", "/reservation/lamp") == (200, {"released": True})
    assert browse("DELETE", "/reservation/lamp") == (200, {"released": False})
    assert browse("POST", "/reservation/lamp", {"who": "bob"}) == (201, {"who": "bob"})


def test_a_notice_is_replaced_only_if_there_is_one(browse):
    assert browse("PUT", "/notice", {"text": "closed"}) == (404, {"text": None})
    assert browse("POST", "/notice", {"text": "open"}) == (201, {"text": "open"})
    assert browse("PUT", "/notice", {"text": "closed"}) == (200, {"text": "closed"})


def test_a_trail_grows_at_both_ends(browse):
    assert browse("POST", "/trail/start", {"page": "ad"}) == (404, {"trail": None})
    assert browse("POST", "/trail", {"page": "lamps"}) == (200, {"trail": "home > lamps"})
    assert browse("POST", "/trail", {"page": "lamp"}) == (200, {"trail": "home > lamps > lamp"})
    assert browse("POST", "/trail/start", {"page": "ad"}) == (200, {"trail": "ad > home > lamps > lamp"})


@pytest.mark.parametrize("text", ["short", "long and dull; " * 100_000], ids=["kept_plain", "compressed"])
def test_a_report_comes_back_whole(browse, server, connect, text):
    assert browse.send("PUT", "/report", text.encode(), {"Content-Type": "text/plain"}) == (
        200,
        {"stored": True},
    )
    assert browse("GET", "/report") == (200, text)
    stored = connect(server).get("report")
    # The long one is over 1 MB before compression: it is the compressed one that the server keeps.
    if len(text) < 1_000:
        assert stored == text.encode()
    else:
        assert len(stored) < 100_000


def test_a_session_that_is_kept_outlives_its_time(browse, wait_until):
    assert browse("POST", "/session/ann/keep") == (200, {"kept": False})
    browse("POST", "/session/ann")
    browse("POST", "/session/bob")
    assert browse("POST", "/session/ann/keep") == (200, {"kept": True})

    def is_gone(name):
        return browse("GET", f"/session/{name}") == (200, {"session": None})

    wait_until(lambda: is_gone("bob"), seconds_max=4, what="the session expires")
    assert browse("GET", "/session/ann") == (200, {"session": {"cart": [1, 2]}})


def test_no_change_to_a_basket_is_lost_when_all_change_it_together(browse):
    items = [f"item-{number}" for number in range(60)]
    with ThreadPoolExecutor(6) as hands:
        answers = list(hands.map(lambda item: browse("POST", f"/basket/{item}"), items))
    assert {status for status, _ in answers} == {200}
    assert sorted(browse("GET", "/basket")[1]["basket"]) == sorted(items)


def test_status_shows_the_statistics_of_the_server(browse, server):
    browse("GET", "/product/lamp")
    browse("GET", "/product/lamp")
    _, [[name, statistics]] = browse("GET", "/status")
    assert name == f"{server.name} (1)"
    assert int(statistics["pid"]) == server.pid
    assert (statistics["get_hits"], statistics["get_misses"], statistics["cmd_set"]) == ("1", "1", "1")
    assert (statistics["curr_items"], statistics["limit_maxbytes"]) == ("1", "67108864")


def test_everything_can_be_forgotten(browse):
    browse("POST", "/stock/10")
    browse("GET", "/product/lamp")
    assert browse("DELETE", "/cache") == (200, {"done": True})
    assert browse("POST", "/sold/1") == (200, {"stock": None})
    browse("GET", "/product/lamp")
    assert browse.warehouse.queries == 2
