"""The Python client (PyPI centrifuge-python) against the server."""

import asyncio
import contextlib

import pytest
from centrifuge import (
    CentrifugeError,
    Client,
    ClientState,
    ReplyError,
    StreamPosition,
    SubscriptionState,
)
from server import WS_URL, fresh, token

PATIENCE = 20.0


@contextlib.asynccontextmanager
async def connected(user="ada", **options):
    async def get_token():
        return token(sub=user)

    client = Client(WS_URL, get_token=get_token, min_reconnect_delay=0.05, max_reconnect_delay=0.2, **options)
    await client.connect()
    await client.ready(PATIENCE)
    try:
        yield client
    finally:
        await client.disconnect()


class Heard:
    """Collects what a subscription receives."""

    def __init__(self, subscription):
        self._publications = asyncio.Queue()
        subscription.events.on_publication = self._publications.put

    async def next(self):
        return (await asyncio.wait_for(self._publications.get(), PATIENCE)).pub


async def subscribed(client, channel):
    subscription = client.new_subscription(channel)
    heard = Heard(subscription)
    await subscription.subscribe()
    await subscription.ready(PATIENCE)
    return subscription, heard


def run(scenario):
    asyncio.run(asyncio.wait_for(scenario(), 20))


def test_connect():
    """connects with a token, and disconnects."""

    async def scenario():
        async with connected() as client:
            assert client.state == ClientState.CONNECTED
        assert client.state == ClientState.DISCONNECTED

    run(scenario)


def test_wrong_token():
    """refuses a token with a wrong signature for good (3500)."""

    async def scenario():
        async def get_token():
            return token(sub="ada")[:-4] + "AAAA"

        ended = asyncio.get_running_loop().create_future()
        client = Client(WS_URL, get_token=get_token)

        async def on_disconnected(context):
            ended.set_result(context.code)

        client.events.on_disconnected = on_disconnected
        await client.connect()
        assert await asyncio.wait_for(ended, PATIENCE) == 3500
        assert client.state == ClientState.DISCONNECTED

    run(scenario)


def test_publish():
    """two clients hear each other."""

    async def scenario():
        async with connected("ada") as ada, connected("bob") as bob:
            channel = fresh("chat")
            hers, ada_heard = await subscribed(ada, channel)
            his, bob_heard = await subscribed(bob, channel)
            await hers.publish({"text": "hello"})
            await his.publish({"text": "hello yourself"})
            for heard in (ada_heard, bob_heard):
                first, second = await heard.next(), await heard.next()
                assert (first.data, first.info.user, first.offset) == ({"text": "hello"}, "ada", 1)
                assert (second.data, second.info.user, second.offset) == ({"text": "hello yourself"}, "bob", 2)

    run(scenario)


def test_presence():
    """presence and presence stats tell who is there."""

    async def scenario():
        async with connected("ada") as ada, connected("bob") as bob:
            channel = fresh("chat")
            chat, _ = await subscribed(ada, channel)
            await subscribed(bob, channel)
            presence = await chat.presence()
            assert sorted(info.user for info in presence.clients.values()) == ["ada", "bob"]
            stats = await chat.presence_stats()
            assert (stats.num_clients, stats.num_users) == (2, 2)

    run(scenario)


def test_history():
    """history: forward, from a position, and backward."""

    async def scenario():
        async with connected() as client:
            chat, _ = await subscribed(client, fresh("chat"))
            for i in range(1, 6):
                await chat.publish(i)
            everything = await chat.history(limit=-1)
            assert [pub.data for pub in everything.publications] == [1, 2, 3, 4, 5]
            since = StreamPosition(offset=2, epoch=everything.epoch)
            assert [pub.data for pub in (await chat.history(limit=2, since=since)).publications] == [3, 4]
            assert [pub.data for pub in (await chat.history(limit=2, reverse=True)).publications] == [5, 4]
            top = await chat.history(limit=0)
            assert (top.publications, top.offset) == ([], 5)

    run(scenario)


def test_recovery():
    """what was missed while away arrives once, in order."""

    async def scenario():
        async with connected("ada") as ada, connected("bob") as bob:
            channel = fresh("chat")
            _, ada_heard = await subscribed(ada, channel)
            his, _ = await subscribed(bob, channel)
            await his.publish(1)
            assert (await ada_heard.next()).data == 1
            await ada.disconnect()
            for i in (2, 3):
                await his.publish(i)
            await ada.connect()
            await ada.ready(PATIENCE)
            await his.publish(4)
            assert [(await ada_heard.next()).data for _ in range(3)] == [2, 3, 4]

    run(scenario)


def test_unsubscribe():
    """after unsubscribing nothing more is heard."""

    async def scenario():
        async with connected("ada") as ada, connected("bob") as bob:
            channel = fresh("chat")
            chat, heard = await subscribed(ada, channel)
            his, bob_heard = await subscribed(bob, channel)
            await chat.unsubscribe()
            assert chat.state == SubscriptionState.UNSUBSCRIBED
            # The unsubscribe command is on its way; presence tells when the server has done it.
            for _ in range(50):
                if (await his.presence_stats()).num_clients == 1:
                    break
                await asyncio.sleep(0.02)
            await his.publish("unheard")
            assert (await bob_heard.next()).data == "unheard"
            assert heard._publications.empty()

    run(scenario)


@pytest.mark.parametrize(("call", "code"), [("publish", 103), ("rpc", 108), ("unknown", 102)])
def test_errors(call, code):
    """errors arrive with their codes."""

    async def scenario():
        async with connected() as client:
            with pytest.raises(CentrifugeError) as caught:
                if call == "publish":
                    await client.publish(fresh("chat"), "not a subscriber")
                elif call == "rpc":
                    await client.rpc("anything", {})
                else:
                    await client.publish(fresh("nowhere"), "no such namespace")
            assert isinstance(caught.value, ReplyError)
            assert caught.value.code == code

    run(scenario)
