"""The server API as back ends use it: PyPI cent, with its blocking and its asyncio client."""

import asyncio
import contextlib
import inspect

import pytest
from cent import (
    AsyncClient,
    BatchRequest,
    BroadcastRequest,
    CentApiResponseError,
    CentUnauthorizedError,
    ChannelsRequest,
    Client,
    Disconnect,
    DisconnectRequest,
    HistoryRemoveRequest,
    HistoryRequest,
    InfoRequest,
    PresenceRequest,
    PresenceStatsRequest,
    PublishRequest,
    RefreshRequest,
    StreamPosition,
    SubscribeRequest,
    UnsubscribeRequest,
)
from centrifuge import Client as Subscriber
from centrifuge import ClientState
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
                await scenario(Api(Client(API_URL, key, timeout=20)))
            else:
                async with AsyncClient(API_URL, key, timeout=20) as client:
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


@contextlib.asynccontextmanager
async def connection(user):
    """A client of a user of its own, and what it hears without having asked for it, by kind."""

    async def get_token():
        return token(sub=user)

    client = Subscriber(WS_URL, get_token=get_token)
    heard = {kind: asyncio.Queue() for kind in ("subscribed", "publication", "unsubscribed", "disconnected")}

    async def on_subscribed(context):
        await heard["subscribed"].put((context.channel, context.data))

    async def on_publication(context):
        await heard["publication"].put((context.channel, context.pub.data))

    async def on_unsubscribed(context):
        await heard["unsubscribed"].put(context.channel)

    async def on_ended(context):
        await heard["disconnected"].put((context.code, context.reason))

    client.events.on_subscribed = on_subscribed
    client.events.on_publication = on_publication
    client.events.on_unsubscribed = on_unsubscribed
    # A code that lets it come back is told as an end of this connection, others as the end of all.
    client.events.on_disconnected = client.events.on_connecting = on_ended
    await client.connect()
    await client.ready(5)
    while not heard["disconnected"].empty():
        heard["disconnected"].get_nowait()
    try:
        yield client, heard
    finally:
        await client.disconnect()


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


def test_subscribe_and_unsubscribe(api):
    """a back end subscribes a user's connection, which hears what is published, and takes it back."""

    async def scenario(api):
        user = fresh("user")
        channel = fresh("chat")
        async with connection(user) as (client, heard):
            await api.subscribe(SubscribeRequest(user=user, channel=channel, data={"welcome": "größer ✓"}))
            assert await asyncio.wait_for(heard["subscribed"].get(), 5) == (channel, {"welcome": "größer ✓"})
            await api.publish(PublishRequest(channel=channel, data={"n": 1}))
            assert await asyncio.wait_for(heard["publication"].get(), 5) == (channel, {"n": 1})
            assert (await api.presence_stats(PresenceStatsRequest(channel=channel))).num_users == 1
            await api.unsubscribe(UnsubscribeRequest(user=user, channel=channel))
            assert await asyncio.wait_for(heard["unsubscribed"].get(), 5) == channel
            assert (await api.presence_stats(PresenceStatsRequest(channel=channel))).num_users == 0
            assert client.state == ClientState.CONNECTED

    api(scenario)


def test_disconnect(api):
    """disconnect closes a user's connections with a code of the back end's own, and nobody else's."""

    async def scenario(api):
        user = fresh("user")
        async with connection(user) as (_, heard), connection(fresh("user")) as (other, _):
            reason = Disconnect(code=4000, reason="closing time")
            await api.disconnect(DisconnectRequest(user=user, disconnect=reason))
            assert await asyncio.wait_for(heard["disconnected"].get(), 5) == (4000, "closing time")
            assert other.state == ClientState.CONNECTED

    api(scenario)


def test_refresh(api):
    """refresh keeps a connection, or ends it as expired (3005)."""

    async def scenario(api):
        user = fresh("user")
        async with connection(user) as (client, heard):
            await api.refresh(RefreshRequest(user=user, expire_at=4102444800))
            assert client.state == ClientState.CONNECTED
            await api.refresh(RefreshRequest(user=user, expired=True))
            assert (await asyncio.wait_for(heard["disconnected"].get(), 5))[0] == 3005

    api(scenario)


def test_batch(api):
    """a batch answers each of its requests in order."""

    async def scenario(api):
        channel = fresh("chat")
        requests = [
            PublishRequest(channel=channel, data=1),
            PublishRequest(channel=channel, data=2),
            HistoryRequest(channel=channel, limit=10),
        ]
        replies = (await api.batch(BatchRequest(requests=requests))).replies
        # An error among them is beyond this client: it looks for a result in every reply.
        assert [reply.offset for reply in replies] == [1, 2, 2]
        assert [publication.data for publication in replies[2].publications] == [1, 2]

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
