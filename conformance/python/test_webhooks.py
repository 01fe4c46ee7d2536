"""The Python client (PyPI centrifuge-python), and an application that the server asks about it."""

import asyncio
import contextlib
import http.server
import json
import os
import threading
import time

import pytest
from centrifuge import Client, ReplyError, SubscriptionState
from server import WS_URL, fresh

PATIENCE = 20.0


class Application:
    """Answers what the server asks, with what the scenario has put for the event."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        application = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                event = self.path.removeprefix("/")
                application.asked.append((event, question, self.headers))
                status, answer = application.answers[event](question)
                body = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", int(os.environ["BOWLINE_APPLICATION_PORT"])), Handler)
        self.server.daemon_threads = True
        self.thread = threading.Thread(target=self.server.serve_forever, name="application")
        self.thread.start()

    def result(self, event, **result):
        self.answers[event] = lambda _: (200, {"result": result})

    def of(self, event):
        return [(question, headers) for asked, question, headers in self.asked if asked == event]

    def close(self):
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture(scope="module")
def listening():
    # One for all scenarios: the server keeps its connections to it open.
    application = Application()
    yield application
    application.close()


@pytest.fixture
def application(listening):
    listening.answers.clear()
    listening.asked.clear()
    listening.result("connect", user="ada", info={"name": "Ada"}, meta={"role": "editor"})
    return listening


@contextlib.asynccontextmanager
async def connected(**options):
    client = Client(WS_URL, min_reconnect_delay=0.05, max_reconnect_delay=0.2, **options)
    await client.connect()
    await client.ready(PATIENCE)
    try:
        yield client
    finally:
        await client.disconnect()


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 30))


def test_connect(application):
    """connects without a token as whom the application says."""

    async def scenario():
        async with connected(data={"key": "k"}, headers={"X-Session": "s1", "X-Other": "no"}):
            question, headers = application.of("connect")[0]
            assert (question["data"], question["transport"], question["protocol"]) == ({"key": "k"}, "websocket", "json")
            assert (headers["X-Session"], headers["X-Other"]) == ("s1", None)

    run(scenario)


def test_connect_again(application):
    """connects again by itself when the application has failed."""

    async def scenario():
        failures = iter([(500, {}), (200, {"error": {"code": 1500, "message": "later", "temporary": True}})])
        admitted = (200, {"result": {"user": "ada"}})
        application.answers["connect"] = lambda _: next(failures, admitted)
        async with connected():
            assert len(application.of("connect")) == 3

    run(scenario)


def test_connect_refused(application):
    """is refused for good by a disconnect of the application's own."""

    async def scenario():
        application.answers["connect"] = lambda _: (200, {"disconnect": {"code": 4501, "reason": "unknown"}})
        ended = asyncio.get_running_loop().create_future()
        client = Client(WS_URL)

        async def on_disconnected(context):
            ended.set_result((context.code, context.reason))

        client.events.on_disconnected = on_disconnected
        await client.connect()
        assert await asyncio.wait_for(ended, PATIENCE) == (4501, "unknown")

    run(scenario)


def test_subscribe(application):
    """subscribes where the application lets it, and hears what else it says."""

    async def scenario():
        channel = fresh("asked")

        def answer(question):
            if question["channel"] == channel:
                return 200, {"result": {"info": {"seat": 1}, "data": {"welcome": True}}}
            return 200, {"error": {"code": 403, "message": "permission denied"}}

        application.answers["subscribe"] = answer
        async with connected() as client:
            subscription = client.new_subscription(channel)
            subscribed = asyncio.get_running_loop().create_future()

            async def on_subscribed(context):
                subscribed.set_result(context.data)

            subscription.events.on_subscribed = on_subscribed
            await subscription.subscribe()
            assert await asyncio.wait_for(subscribed, PATIENCE) == {"welcome": True}
            presence = await subscription.presence()
            (member,) = presence.clients.values()
            assert (member.user, member.conn_info, member.chan_info) == ("ada", {"name": "Ada"}, {"seat": 1})

            refused = client.new_subscription(fresh("asked"))
            ended = asyncio.get_running_loop().create_future()

            async def on_unsubscribed(context):
                ended.set_result(context.code)

            refused.events.on_unsubscribed = on_unsubscribed
            await refused.subscribe()
            assert await asyncio.wait_for(ended, PATIENCE) == 403

    run(scenario)


def test_publish(application):
    """publishes what the application makes of it."""

    async def scenario():
        application.result("subscribe")
        application.answers["publish"] = lambda question: (
            (200, {"result": {"data": {"text": question["data"]["text"].upper()}}})
            if question["data"]["text"] != "rude"
            else (200, {"error": {"code": 1403, "message": "not here"}})
        )
        async with connected() as client:
            subscription = client.new_subscription(fresh("asked"))
            heard = asyncio.Queue()
            subscription.events.on_publication = heard.put
            await subscription.subscribe()
            await subscription.ready(PATIENCE)
            await subscription.publish({"text": "hello"})
            publication = (await asyncio.wait_for(heard.get(), PATIENCE)).pub
            assert (publication.data, publication.info.user) == ({"text": "HELLO"}, "ada")
            with pytest.raises(ReplyError) as refused:
                await subscription.publish({"text": "rude"})
            assert refused.value.code == 1403

    run(scenario)


def test_rpc(application):
    """calls a method that the application answers, which is told what it said of the connection."""

    async def scenario():
        application.answers["rpc"] = lambda question: (200, {"result": {"data": {"sum": sum(question["data"])}}})
        async with connected() as client:
            assert (await client.rpc("sum", [1, 2])).data == {"sum": 3}
            question, headers = application.of("rpc")[0]
            assert (question["user"], question["method"], question["meta"]) == ("ada", "sum", {"role": "editor"})
            assert headers["X-Server"] == "bowline"

    run(scenario)


def test_refresh(application):
    """stays as long as the application says, without bringing anything."""

    async def scenario():
        application.answers["connect"] = lambda _: (200, {"result": {"user": "ada", "expire_at": int(time.time()) + 2}})
        refreshed = asyncio.Event()
        loop = asyncio.get_running_loop()

        def renew(_):
            loop.call_soon_threadsafe(refreshed.set)
            return 200, {"result": {"expire_at": int(time.time()) + 3600}}

        application.answers["refresh"] = renew
        application.result("rpc", data=1)
        async with connected() as client:
            await asyncio.wait_for(refreshed.wait(), PATIENCE)
            assert (await client.rpc("ping", None)).data == 1
            assert len(application.of("connect")) == 1

    run(scenario)


def test_sub_refresh(application):
    """loses a subscription when the application takes it back, and asks for it again."""

    async def scenario():
        application.answers["subscribe"] = lambda _: (200, {"result": {"expire_at": int(time.time()) + 2}})
        application.result("sub_refresh", expired=True)
        async with connected() as client:
            subscription = client.new_subscription(fresh("asked"))
            lost = asyncio.get_running_loop().create_future()

            async def on_subscribing(context):
                if context.code == 2501 and not lost.done():
                    lost.set_result(context.code)

            subscription.events.on_subscribing = on_subscribing
            await subscription.subscribe()
            await asyncio.wait_for(lost, PATIENCE)
            await subscription.ready(PATIENCE)
            assert subscription.state == SubscriptionState.SUBSCRIBED
            assert len(application.of("subscribe")) >= 2

    run(scenario)
