"""The server API over gRPC, as PyPI grpcio calls it: with stubs made of what the server says there is (reflection)."""

import asyncio
import contextlib
import os

import grpc
import pytest
from centrifuge import Client as Subscriber
from google.protobuf import descriptor_pool, message_factory
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from server import API_KEY, WS_URL, fresh, token

GRPC_URL = os.environ["BOWLINE_GRPC_URL"]
SERVICE = "centrifugal.centrifugo.api.CentrifugoApi"


class WithMetadata(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):
    """Adds metadata to every call."""

    def __init__(self, *metadata):
        self._metadata = metadata

    def _changed(self, details):
        return details._replace(metadata=[*(details.metadata or ()), *self._metadata])

    def intercept_unary_unary(self, call, details, request):
        return call(self._changed(details), request)

    def intercept_stream_stream(self, call, details, requests):
        return call(self._changed(details), requests)


class Api:
    """Calls by name, with requests by fields."""

    def __init__(self, *metadata):
        key = ("authorization", f"apikey {API_KEY}")
        self._plain = grpc.insecure_channel(GRPC_URL)
        described = grpc.intercept_channel(self._plain, WithMetadata(key))
        self._pool = descriptor_pool.DescriptorPool(ProtoReflectionDescriptorDatabase(described))
        self.channel = grpc.intercept_channel(self._plain, WithMetadata(*(metadata or (key,))))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._plain.close()

    def call(self, name, **fields):
        method = self._pool.FindServiceByName(SERVICE).FindMethodByName(name)
        request = message_factory.GetMessageClass(method.input_type)(**fields)
        answer = message_factory.GetMessageClass(method.output_type)
        call = self.channel.unary_unary(
            f"/{SERVICE}/{name}", request_serializer=type(request).SerializeToString, response_deserializer=answer.FromString
        )
        return call(request, timeout=10)


KEY = ("authorization", f"apikey {API_KEY}")
TRANSPORT = ("x-centrifugo-error-mode", "transport")


def test_publish_answers_the_position_and_history_has_it():
    with Api() as api:
        channel = fresh("chat")
        first = api.call("Publish", channel=channel, data=b'{"n": 1}', tags={"a": "b"})
        again = api.call("Publish", channel=channel, b64data="eyJuIjogMn0=")
        assert (first.result.offset, again.result.offset) == (1, 2)
        assert first.result.epoch == again.result.epoch != ""
        past = api.call("History", channel=channel, limit=-1).result
        assert [(p.data, p.offset, dict(p.tags)) for p in past.publications] == [(b'{"n": 1}', 1, {"a": "b"}), (b'{"n": 2}', 2, {})]
        assert (past.offset, past.epoch) == (2, first.result.epoch)
        api.call("HistoryRemove", channel=channel)
        assert list(api.call("History", channel=channel, limit=-1).result.publications) == []


def test_broadcast_answers_each_channel():
    with Api() as api:
        answer = api.call("Broadcast", channels=[fresh("chat"), "none:x"], data=b"{}")
        assert answer.result.responses[0].result.offset == 1
        assert answer.result.responses[1].error.code == 102


def test_a_batch_answers_in_order():
    with Api() as api:
        channel = fresh("chat")
        commands = [
            {"publish": {"channel": channel, "data": b"{}"}},
            {"presence": {"channel": "news"}},
            {"history": {"channel": channel, "limit": -1}},
            {},
        ]
        replies = api.call("Batch", commands=commands, parallel=True).replies
        assert replies[0].publish.offset == 1
        assert replies[1].error.code == 108
        assert len(replies[2].history.publications) == 1
        assert replies[3].error.code == 104


def test_failures_are_in_the_response_or_statuses():
    with Api() as api:
        assert api.call("Publish", channel="none:x", data=b"{}").error.code == 102
        assert api.call("RPC", method="none").error.code == 104
    with Api(KEY, TRANSPORT) as api:
        for name, fields, status in [
            ("Publish", {"channel": "none:x", "data": b"{}"}, grpc.StatusCode.NOT_FOUND),
            ("Publish", {"channel": "", "data": b"{}"}, grpc.StatusCode.INVALID_ARGUMENT),
            ("Presence", {"channel": "news"}, grpc.StatusCode.INVALID_ARGUMENT),
            ("History", {"channel": fresh("chat"), "limit": 1, "since": {"offset": 1, "epoch": "other"}}, grpc.StatusCode.OUT_OF_RANGE),
        ]:
            with pytest.raises(grpc.RpcError) as failed:
                api.call(name, **fields)
            assert failed.value.code() == status, name


@pytest.mark.parametrize("authorization", [None, "apikey other", f"bearer {API_KEY}", API_KEY])
def test_without_the_key_nothing_is_done(authorization):
    metadata = [("authorization", authorization)] if authorization else [("x-none", "1")]
    with Api(*metadata) as api, pytest.raises(grpc.RpcError) as failed:
        api.call("Info")
    assert failed.value.code() == grpc.StatusCode.UNAUTHENTICATED


def test_a_message_that_is_too_long_is_refused_and_the_connection_lives_on():
    with Api() as api:
        with pytest.raises(grpc.RpcError) as failed:
            api.call("Publish", channel="news", data=b"1" * (5 * 1024 * 1024))
        assert failed.value.code() in (grpc.StatusCode.OUT_OF_RANGE, grpc.StatusCode.RESOURCE_EXHAUSTED)
        assert api.call("Info").result.nodes[0].num_clients >= 0


def test_many_calls_at_once_over_one_connection():
    with Api() as api:
        method = api._pool.FindServiceByName(SERVICE).FindMethodByName("Publish")
        request = message_factory.GetMessageClass(method.input_type)
        answer = message_factory.GetMessageClass(method.output_type)
        call = api.channel.unary_unary(
            f"/{SERVICE}/Publish", request_serializer=request.SerializeToString, response_deserializer=answer.FromString
        )
        channel = fresh("chat")
        calls = [call.future(request(channel=channel, data=b"{}"), timeout=20) for _ in range(500)]
        assert sorted(c.result().result.offset for c in calls) == list(range(1, 501))


def test_methods_of_other_editions_are_unimplemented():
    with Api() as api:
        call = api.channel.unary_unary(f"/{SERVICE}/SendPushNotification")
        with pytest.raises(grpc.RpcError) as failed:
            call(b"", timeout=10)
        assert failed.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_is_told_without_a_key():
    with grpc.insecure_channel(GRPC_URL) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest(), timeout=10)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_user_is_subscribed_seen_and_disconnected():
    async def scene():
        channel, user = fresh("chat"), fresh("user")
        gone = asyncio.Event()
        client = Subscriber(WS_URL, token=token(sub=user))

        async def on_disconnected(context):
            assert context.code == 4500
            gone.set()

        client.events.on_disconnected = on_disconnected
        await client.connect()
        await client.ready()
        with Api() as api:

            async def call(name, **fields):
                return await asyncio.to_thread(lambda: api.call(name, **fields))

            await call("Subscribe", user=user, channel=channel, data=b'{"from": "grpc"}')
            # It is done when the call returns; the client need not have noticed.
            present = (await call("Presence", channel=channel)).result.presence
            assert [who.user for who in present.values()] == [user]
            numbers = (await call("PresenceStats", channel=channel)).result
            assert (numbers.num_clients, numbers.num_users) == (1, 1)
            assert (await call("Channels", pattern=channel)).result.channels[channel].num_clients == 1
            await call("Disconnect", user=user, disconnect={"code": 4500, "reason": "bye"})
            await asyncio.wait_for(gone.wait(), 5)
        with contextlib.suppress(Exception):
            await client.disconnect()

    asyncio.run(asyncio.wait_for(scene(), 20))


def test_a_user_is_listed_blocked_and_let_in_again():
    async def scene():
        user = fresh("user")
        gone = asyncio.Event()
        client = Subscriber(WS_URL, token=token(sub=user, jti="of " + user))

        async def on_disconnected(context):
            assert context.code == 3507
            gone.set()

        client.events.on_disconnected = on_disconnected
        await client.connect()
        await client.ready()
        with Api() as api:

            async def call(name, **fields):
                return await asyncio.to_thread(lambda: api.call(name, **fields))

            (found,) = (await call("Connections", user=user)).result.connections.values()
            assert (found.user, found.transport, found.state.connection_token.uid) == (user, "websocket", "of " + user)
            await call("BlockUser", user=user)
            await asyncio.wait_for(gone.wait(), 5)
            await call("UnblockUser", user=user)
            await call("RevokeToken", uid="of " + user)
            await call("InvalidateUserTokens", user=user)
            assert (await call("BlockUser")).error.code == 107
        with contextlib.suppress(Exception):
            await client.disconnect()

    asyncio.run(asyncio.wait_for(scene(), 20))
