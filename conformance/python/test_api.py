"""The server API as back ends use it: PyPI cent, with its blocking and its asyncio client."""

import asyncio
import contextlib
import inspect

import pytest
from cent import (
    AsyncClient,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    StreamPosition,
)
from centrifuge import Client as Subscriber
from server import API_KEY, API_URL, WS_URL, fresh, token


class Api:
    """One face for both clients: a call is always awaited."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, method):
        async def call(request):
            # The blocking client runs in a thread, so that subscribers of the same scenario go on.
            function = getattr(self._client, method)
            if inspect.iscoroutinefunction(function):
                return await function(request)
            return await asyncio.to_thread(function, request)

        return call


@pytest.fixture(params=["blocking", "asyncio"])
def api(request):
    """Runs a scenario with either client."""

    def run(scenario, key=API_KEY):
        async def scene():
            if request.param == "blocking":
                await scenario(Api(Client(API_URL, key, timeout=5)))
            else:
                async with AsyncClient(API_URL, key, timeout=5) as client:
                    await scenario(Api(client))

        asyncio.run(asyncio.wait_for(scene(), 20))

    return run


@contextlib.asynccontextmanager
async def subscriber(channel, user="ada"):
    """A client that is subscribed to the channel."""

    async def get_token():
        return token(sub=user)

    client = Subscriber(WS_URL, get_token=get_token)
    subscription = client.new_subscription(channel)
    heard = asyncio.Queue()
    subscription.events.on_publication = heard.put
    await client.connect()
    await subscription.subscribe()
    await subscription.ready(5)
    try:
        yield heard
    finally:
        await client.disconnect()


def test_publish(api):
    """publish returns the position and reaches the subscriber."""

    async def scenario(api):
        channel = fresh("chat")
        async with subscriber(channel) as heard:
            first = await api.publish(PublishRequest(channel=channel, data={"n": 1}))
            second = await api.publish(PublishRequest(channel=channel, data={"n": 2}, tags={"kind": "test"}))
            assert (first.offset, second.offset) == (1, 2)
            assert first.epoch
            assert first.epoch == second.epoch
            assert (await asyncio.wait_for(heard.get(), 5)).pub.data == {"n": 1}
            assert (await asyncio.wait_for(heard.get(), 5)).pub.tags == {"kind": "test"}

    api(scenario)


def test_publish_nothing_kept(api):
    """publish where nothing is kept returns no position."""

    async def scenario(api):
        result = await api.publish(PublishRequest(channel="news", data={}))
        # Both are absent from the answer, which the client reads as these.
        assert (result.offset, result.epoch) == (0, "")

    api(scenario)


def test_idempotency(api):
    """a repeated publish with the same idempotency key publishes once."""

    async def scenario(api):
        channel = fresh("chat")
        request = PublishRequest(channel=channel, data=1, idempotency_key="k1")
        assert (await api.publish(request)).offset == 1
        assert (await api.publish(request)).offset == 1
        assert (await api.history(HistoryRequest(channel=channel, limit=0))).offset == 1

    api(scenario)


def test_broadcast(api):
    """broadcast reaches every channel; one bad channel fails alone."""

    async def scenario(api):
        channels = [fresh("chat"), fresh("nowhere"), fresh("chat")]
        async with subscriber(channels[0]) as first, subscriber(channels[2]) as third:
            result = await api.broadcast(BroadcastRequest(channels=channels, data={"to": "all"}))
            errors = [response.error and response.error.code for response in result.responses]
            assert errors == [None, 102, None]
            for heard in (first, third):
                assert (await asyncio.wait_for(heard.get(), 5)).pub.data == {"to": "all"}

    api(scenario)


def test_presence(api):
    """presence and presence stats see subscribers come and go."""

    async def scenario(api):
        channel = fresh("chat")
        assert (await api.presence(PresenceRequest(channel=channel))).presence == {}
        async with subscriber(channel), subscriber(channel, "bob"), subscriber(channel, "bob"):
            presence = (await api.presence(PresenceRequest(channel=channel))).presence
            assert sorted(info.user for info in presence.values()) == ["ada", "bob", "bob"]
            assert all(info.client == client for client, info in presence.items())
            stats = await api.presence_stats(PresenceStatsRequest(channel=channel))
            assert (stats.num_clients, stats.num_users) == (3, 2)

    api(scenario)


def test_history(api):
    """history: everything, from a position, backward, the top alone; removal keeps the position."""

    async def scenario(api):
        channel = fresh("chat")
        for i in range(1, 6):
            await api.publish(PublishRequest(channel=channel, data=i))
        everything = await api.history(HistoryRequest(channel=channel, limit=-1))
        assert [pub.data for pub in everything.publications] == [1, 2, 3, 4, 5]
        since = StreamPosition(offset=3, epoch=everything.epoch)
        after = await api.history(HistoryRequest(channel=channel, limit=10, since=since))
        assert [pub.offset for pub in after.publications] == [4, 5]
        backward = await api.history(HistoryRequest(channel=channel, limit=2, reverse=True))
        assert [pub.offset for pub in backward.publications] == [5, 4]
        await api.history_remove(HistoryRemoveRequest(channel=channel))
        removed = await api.history(HistoryRequest(channel=channel, limit=-1))
        assert (removed.publications, removed.offset, removed.epoch) == ([], 5, everything.epoch)

    api(scenario)


def test_channels(api):
    """channels lists those with subscribers, and honours the pattern."""

    async def scenario(api):
        channel = fresh("chat")
        async with subscriber(channel), subscriber(channel):
            channels = (await api.channels(ChannelsRequest())).channels
            assert channels[channel].num_clients == 2
            assert channel in (await api.channels(ChannelsRequest(pattern="chat:*"))).channels
            assert channel not in (await api.channels(ChannelsRequest(pattern="other:*"))).channels

    api(scenario)


def test_info(api):
    """info describes the one node."""

    async def scenario(api):
        async with subscriber(fresh("chat")):
            (node,) = (await api.info(InfoRequest())).nodes
            assert node.uid
            assert node.name
            assert node.version
            assert node.num_clients >= 1
            assert node.num_channels >= 1

    api(scenario)


def test_wrong_key(api):
    """a wrong key is refused (401)."""

    async def scenario(api):
        with pytest.raises(CentUnauthorizedError):
            await api.info(InfoRequest())

    api(scenario, key="not the key")


@pytest.mark.parametrize(
    ("method", "request_", "code"),
    [
        ("publish", PublishRequest(channel="nowhere:x", data=1), 102),
        ("history", HistoryRequest(channel="nowhere:x"), 102),
        ("presence", PresenceRequest(channel="nowhere:x"), 102),
        ("publish", PublishRequest(channel="", data=1), 107),
        ("broadcast", BroadcastRequest(channels=[], data=1), 107),
        ("history", HistoryRequest(channel="news"), 108),
        ("presence", PresenceRequest(channel="news"), 108),
        ("presence_stats", PresenceStatsRequest(channel="news"), 108),
    ],
    ids=lambda value: value if isinstance(value, str) else getattr(value, "channel", None),
)
def test_errors(api, method, request_, code):
    """errors arrive with their codes."""

    async def scenario(api):
        with pytest.raises(CentApiResponseError) as caught:
            await getattr(api, method)(request_)
        assert caught.value.code == code

    api(scenario)
