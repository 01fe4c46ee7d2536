"""gRPC both ways, by PyPI grpcio with stubs of the published .proto files: clients that only listen, and an application that
the server asks about its clients."""

import asyncio
import contextlib
import json
import os
import pathlib
import tempfile
import threading
import time
import urllib.request
from concurrent import futures

import grpc
import pytest
from centrifuge import Client, ReplyError, SubscriptionState
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from grpc_tools import protoc
from server import API_KEY, API_URL, WS_URL, fresh, token

UNI_URL = os.environ["BOWLINE_UNI_GRPC_URL"]
PROTO = pathlib.Path(__file__).resolve().parents[2] / "crates" / "bowline-server" / "proto"
PATIENCE = 20.0


def described(*files):
    """The messages and services of .proto files, as protoc reads them."""
    pool = descriptor_pool.DescriptorPool()
    with tempfile.TemporaryDirectory() as directory:
        out = pathlib.Path(directory) / "descriptors"
        assert protoc.main(["protoc", f"-I{PROTO}", f"--descriptor_set_out={out}", *files]) == 0
        for file in descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file:
            pool.Add(file)
    return pool


POOL = described("unistream.proto", "proxy.proto")
STREAM = "centrifugal.centrifugo.unistream."
PROXY = "centrifugal.centrifugo.proxy."


def message(full_name, /, **fields):
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(full_name))(**fields)


def api(method, **request):
    """A call of the server API."""
    call = urllib.request.Request(
        f"{API_URL}/{method}", json.dumps(request).encode(), {"X-API-Key": API_KEY, "Content-Type": "application/json"}
    )
    with urllib.request.urlopen(call, timeout=PATIENCE) as answer:
        answer = json.load(answer)
    assert "result" in answer, answer
    return answer["result"]


class Stream:
    """A client that only listens."""

    def __init__(self, metadata=(), timeout=20, **request):
        self.channel = grpc.insecure_channel(UNI_URL)
        consume = self.channel.unary_stream(
            "/centrifugal.centrifugo.unistream.CentrifugoUniStream/Consume",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=type(message(STREAM + "Push")).FromString,
        )
        self.call = consume(message(STREAM + "ConnectRequest", **request), metadata=metadata, timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.call.cancel()
        self.channel.close()

    def next(self, kind):
        """The next push that is no ping, which has to be of this kind."""
        for push in self.call:
            fields = [field.name for field, _ in push.ListFields() if field.name != "channel"]
            if fields:
                assert fields == [kind], push
                return push.channel, getattr(push, kind)
        raise AssertionError(f"the stream has ended before `{kind}`: {self.call.code()}")


class Application:
    """Answers what the server asks, with what the scenario has put for the event."""

    def __init__(self):
        self.answers = {}
        self.asked = []
        service = POOL.FindServiceByName(PROXY + "CentrifugoProxy")
        handlers = {method.name: self.handler(method) for method in service.methods}
        self.server = grpc.server(futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service.full_name, handlers)])
        assert self.server.add_insecure_port(f"127.0.0.1:{os.environ['BOWLINE_APPLICATION_PORT']}")
        self.server.start()

    def handler(self, method):
        response = message_factory.GetMessageClass(method.output_type)

        def answer(request, context):
            self.asked.append((method.name, request, dict(context.invocation_metadata()), context))
            made = self.answers.get(method.name, lambda *_: {})(request, context)
            return response(**made)

        return grpc.unary_unary_rpc_method_handler(
            answer,
            request_deserializer=message_factory.GetMessageClass(method.input_type).FromString,
            response_serializer=lambda message: message.SerializeToString(),
        )

    def result(self, event, **result):
        self.answers[event] = lambda *_: {"result": result}

    def of(self, event):
        return [(request, metadata) for asked, request, metadata, _ in self.asked if asked == event]

    def close(self):
        self.server.stop(0).wait()


@pytest.fixture
def application():
    application = Application()
    application.result("Connect", user="ada", info=b'{"name": "Ada"}', meta=b'{"role": "editor"}')
    yield application
    application.close()


@pytest.fixture(autouse=True)
def settled(application):
    """The connection to the application of the scenario before is gone, and its breaker has seen this one answer."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with Stream() as stream, contextlib.suppress(AssertionError, grpc.RpcError):
            stream.next("connect")
            application.asked.clear()
            return
        time.sleep(0.1)
    raise AssertionError("the server does not ask the application")


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
    asyncio.run(asyncio.wait_for(scenario(), 25))


def until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


# -- Streams ----------------------------------------------------------------------------------------------------------


def test_a_stream_with_a_token_is_told_what_is_published():
    channel = fresh("news")
    with Stream(token=token(sub="grace", channels=[channel])) as stream:
        _, connect = stream.next("connect")
        assert list(connect.subs) == [channel] and connect.client and not connect.pong
        api("publish", channel=channel, data={"n": 1}, tags={"a": "b"})
        where, publication = stream.next("pub")
        assert (where, json.loads(publication.data), publication.offset, dict(publication.tags)) == (channel, {"n": 1}, 1, {"a": "b"})
        position = connect.subs[channel]
    # What was published meanwhile is in the connect push of the next stream.
    for n in (2, 3):
        api("publish", channel=channel, data={"n": n})
    wishes = {channel: message(STREAM + "SubscribeRequest", recover=True, epoch=position.epoch, offset=1)}
    with Stream(token=token(sub="grace", channels=[channel]), subs=wishes) as stream:
        _, connect = stream.next("connect")
        assert connect.subs[channel].recovered
        assert [json.loads(p.data) for p in connect.subs[channel].publications] == [{"n": 2}, {"n": 3}]


def test_many_streams_over_one_connection_get_every_push():
    channel = fresh("news")
    streams = [Stream(token=token(sub=f"user{n}", channels=[channel])) for n in range(50)]
    try:
        for stream in streams:
            stream.next("connect")
        for n in range(20):
            api("publish", channel=channel, data=n)
        for stream in streams:
            assert [json.loads(stream.next("pub")[1].data) for _ in range(20)] == list(range(20))
    finally:
        for stream in streams:
            stream.__exit__()


def test_a_stream_that_is_cancelled_is_gone_from_presence():
    channel = fresh("news")
    with Stream(token=token(sub="grace", channels=[channel])) as stream:
        stream.next("connect")
        assert api("presence_stats", channel=channel)["num_clients"] == 1
    until(lambda: api("presence_stats", channel=channel)["num_clients"] == 0)


def test_the_end_of_a_stream_is_a_disconnect_push_and_the_status_ok():
    with Stream(token=token(sub="leaving")) as stream:
        stream.next("connect")
        api("disconnect", user="leaving", disconnect={"code": 4501, "reason": "bye"})
        _, end = stream.next("disconnect")
        assert (end.code, end.reason) == (4501, "bye")
        assert list(stream.call) == [] and stream.call.code() == grpc.StatusCode.OK


def test_a_stream_ends_at_the_deadline_of_the_client():
    with Stream(token=token(sub="grace"), timeout=0.5) as stream:
        stream.next("connect")
        with pytest.raises(grpc.RpcError) as ended:
            stream.next("disconnect")
        assert ended.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED


def test_pings_are_pushes_with_nothing_in_them():
    with Stream(token=token(sub="grace")) as stream:
        _, connect = stream.next("connect")
        assert connect.ping == 2
        assert next(stream.call).ByteSize() == 0


# -- The application --------------------------------------------------------------------------------------------------


def test_a_stream_without_a_token_is_what_the_application_says(application):
    channel = fresh("news")
    override = message(PROXY + "SubscribeOptionOverride", presence=message(PROXY + "BoolValue", value=False))
    options = message(PROXY + "SubscribeOptions", data=b'{"welcome": true}', override=override)
    application.result("Connect", user="ada", data=b'{"for": "ada"}', subs={channel: options})
    with Stream(metadata=[("x-session", "s1"), ("x-other", "o")], data=b'{"wish": 1}', name="grpcio") as stream:
        _, connect = stream.next("connect")
        assert json.loads(connect.data) == {"for": "ada"}
        assert json.loads(connect.subs[channel].data) == {"welcome": True}
        asked, metadata = application.of("Connect")[0]
        assert (asked.client, asked.transport, asked.protocol, asked.encoding) == (connect.client, "uni_grpc", "protobuf", "json")
        assert (json.loads(asked.data), asked.name) == ({"wish": 1}, "grpcio")
        assert (metadata["x-session"], metadata["x-server"]) == ("s1", "bowline") and "x-other" not in metadata


def test_a_stream_that_the_application_refuses_ends(application):
    application.answers["Connect"] = lambda *_: {"disconnect": message(PROXY + "Disconnect", code=4503, reason="no")}
    with Stream() as stream:
        _, end = stream.next("disconnect")
        assert (end.code, end.reason) == (4503, "no")


def test_the_application_decides_who_subscribes_and_what_is_published(application):
    async def scene():
        channel = fresh("asked")
        application.result("Subscribe", data=b'{"welcome": true}', info=b'{"seat": 7}')
        application.answers["Publish"] = lambda request, _: {
            "result": {"data": json.dumps({"seen": json.loads(request.data)}).encode(), "tags": {"by": request.user}}
        }
        async with connected() as client:
            subscription = client.new_subscription(channel)
            arrived = asyncio.get_running_loop().create_future()

            async def on_publication(context):
                arrived.set_result(context.pub)

            subscription.events.on_publication = on_publication
            await subscription.subscribe()
            await subscription.ready(PATIENCE)
            await subscription.publish({"n": 1})
            publication = await asyncio.wait_for(arrived, PATIENCE)
            assert publication.data == {"seen": {"n": 1}} and publication.tags == {"by": "ada"}
            asked, _ = application.of("Subscribe")[0]
            assert (asked.user, asked.channel, asked.transport) == ("ada", channel, "websocket")
            [who] = (await asyncio.to_thread(api, "presence", channel=channel))["presence"].values()
            assert (who["conn_info"], who["chan_info"]) == ({"name": "Ada"}, {"seat": 7})

    run(scene)


def test_errors_of_the_application_are_those_of_the_client(application):
    async def scene():
        application.answers["RPC"] = lambda *_: {"error": message(PROXY + "Error", code=1404, message="none")}
        async with connected() as client:
            with pytest.raises(ReplyError) as failed:
                await client.rpc("find", {})
            assert (failed.value.code, failed.value.message) == (1404, "none")

    run(scene)


def test_a_method_is_called_with_what_the_application_said_about_the_client(application):
    async def scene():
        application.answers["RPC"] = lambda request, _: {
            "result": {"data": json.dumps({"sum": sum(json.loads(request.data)), "for": json.loads(request.meta)}).encode()}
        }
        async with connected() as client:
            result = await client.rpc("sum", [1, 2])
            assert result.data == {"sum": 3, "for": {"role": "editor"}}
            many = await asyncio.gather(*(client.rpc("sum", [n]) for n in range(100)))
            assert [result.data["sum"] for result in many] == list(range(100))

    run(scene)


def test_a_status_of_the_application_is_an_internal_error(application):
    async def scene():
        application.answers["RPC"] = lambda _, context: context.abort(grpc.StatusCode.NOT_FOUND, "no such method")
        async with connected() as client:
            with pytest.raises(ReplyError) as failed:
                await client.rpc("sum", [])
            assert failed.value.code == 100

    run(scene)


def test_a_connection_is_renewed_by_the_application_until_it_says_no(application):
    application.answers["Connect"] = lambda *_: {"result": {"user": "ada", "expire_at": int(time.time()) + 2}}
    application.answers["Refresh"] = lambda *_: {"result": {"expired": len(application.of("Refresh")) > 1, "expire_at": int(time.time()) + 2}}
    with Stream() as stream:
        stream.next("connect")
        while True:
            push = next(stream.call)
            if push.HasField("disconnect"):
                break
        assert push.disconnect.code == 3005
        assert [asked.user for asked, _ in application.of("Refresh")] == ["ada", "ada"]


def test_a_client_that_goes_takes_its_question_back(application):
    cancelled = threading.Event()

    def never(_, context):
        context.add_callback(cancelled.set)
        cancelled.wait(PATIENCE)
        return {}

    application.answers["Connect"] = never
    with Stream() as stream:
        until(lambda: application.of("Connect"))
        stream.call.cancel()
        assert cancelled.wait(0.9), "before the time-out of the question"


def test_an_application_that_restarts_is_asked_again(application):
    async def scene():
        application.result("RPC", data=b'"one"')
        async with connected() as client:
            assert (await client.rpc("which", {})).data == "one"
            await asyncio.to_thread(application.close)
            other = await asyncio.to_thread(Application)
            try:
                other.result("RPC", data=b'"two"')
                deadline = time.monotonic() + 15
                while True:
                    try:
                        answer = await client.rpc("which", {})
                        break
                    except ReplyError as error:
                        # While it is away; the breaker may be open for a while.
                        assert error.code == 100 and time.monotonic() < deadline
                        await asyncio.sleep(0.1)
                assert answer.data == "two"
            finally:
                await asyncio.to_thread(other.close)

    run(scene)
