#!/usr/bin/env python3
"""Makes protobuf.txt: messages as an independent implementation of protobuf encodes them.

Needs PyPI centrifuge-python 0.7.0, whose schema it uses, and prints one message per line:

    command | reply    same | more    the frame in hexadecimal    the same message in JSON

`same` frames are canonical and hold only what this crate's types know: encoding gives the same bytes. `more` frames also
hold fields that the types do not have, in an order of their own. The seed is fixed: a run makes the committed file.
"""

import json
import random

from centrifuge.protocol import client_pb2 as schema

# Fields of the schema that this crate skips.
SKIPPED = {
    "ConnectRequest": {"flag", "dict", "profile"},
    "ConnectResult": {"flag", "dict"},
    "Disconnect": {"reconnect"},
    "Publication": {"channel", "key", "removed", "score", "prev_data", "version"},
    "PublishRequest": {"key", "removed"},
    "Push": {"id"},
    "SubRefreshRequest": {"track", "untrack"},
    "SubRefreshResult": {"items"},
    "SubscribeRequest": {"phase", "cursor", "limit", "asc"},
    "SubscribeResult": {"id", "type", "phase", "cursor", "state", "publish_debounce"},
}
ONE_OF = {"Command", "Reply", "Push"}
TEXTS = ["a", "news:eu", "é🦀", "x" * 130, "\n\"\\"]
PAYLOADS = ["{}", "[1,2]", "\"text é\"", "{\"a\":{\"b\":null}}", "0", "\"" + "y" * 200 + "\""]

rng = random.Random(6)


def number(field):
    signed = field.type in (field.TYPE_INT32, field.TYPE_INT64, field.TYPE_SINT64)
    bits = 32 if field.type in (field.TYPE_INT32, field.TYPE_UINT32) else 64
    if field.name == "code":
        bits, signed = 16, False
    top = 2 ** (bits - signed) - 1
    return rng.choice([1, 127, 128, 300, top] + [-1, -top - 1] * signed)


def fill(message, with_skipped, depth=0):
    """Sets some of the fields of `message`; answers them in the form of JSON."""
    name = message.DESCRIPTOR.name
    skipped = SKIPPED.get(name, set())
    fields = [f for f in message.DESCRIPTOR.fields if with_skipped or f.name not in skipped]
    answer = {}
    if name in ONE_OF:
        contents = [f for f in fields if f.message_type and f.name not in ("error", "push")]
        extra = [f for f in fields if not f.message_type and rng.random() < 0.9 and f.name != "id"]
        content = rng.choice(contents)
        # Of no channel: the types have no place for one.
        is_own = name == "Push" and content.name in ("message", "connect", "disconnect", "refresh")
        fields = [content] if is_own else [content] + extra
    elif name not in ("Join", "Leave"):  # which the types cannot have without content
        fields = [f for f in fields if rng.random() < 0.6]
    for field in fields:
        if field.name == "nodes" and depth > 3:
            continue
        value = fill_field(message, field, with_skipped, depth)
        if field.name not in skipped:
            answer[field.name] = value
    return answer


def fill_field(message, field, with_skipped, depth):
    target = getattr(message, field.name)
    if field.message_type and field.message_type.GetOptions().map_entry:
        values = {}
        for key in rng.sample(TEXTS, rng.randint(1, 2)):
            if field.message_type.fields_by_name["value"].message_type:
                values[key] = fill(target[key], with_skipped, depth + 1)
            else:
                values[key] = target[key] = rng.choice(TEXTS)
        return values
    if field.is_repeated:
        if field.message_type:
            return [fill(target.add(), with_skipped, depth + 1) for _ in range(rng.randint(1, 2))]
        values = rng.sample(TEXTS, 2)
        target.extend(values)
        return values
    if field.message_type:
        target.SetInParent()
        return fill(target, with_skipped, depth + 1)
    if field.type == field.TYPE_STRING:
        value = rng.choice(TEXTS)
    elif field.type == field.TYPE_BYTES:
        text = rng.choice(PAYLOADS)
        setattr(message, field.name, text.encode())
        return json.loads(text)
    elif field.type == field.TYPE_BOOL:
        value = True
    else:
        value = number(field)
    setattr(message, field.name, value)
    return value


def varint(length):
    out = bytearray()
    while length > 127:
        out.append(length & 127 | 128)
        length >>= 7
    return bytes(out + bytes([length]))


def line(kind, with_skipped):
    message = schema.Command() if kind == "command" else schema.Reply()
    answer = {"id": rng.choice([1, 300, 2**32 - 1])}
    message.id = answer["id"]
    roll = rng.random()
    if kind == "reply" and roll < 0.1:
        answer["error"] = fill(message.error, with_skipped)
        message.error.SetInParent()
    elif kind == "reply" and roll < 0.5:
        message.id = 0
        message.push.SetInParent()
        answer = {"push": fill(message.push, with_skipped)}
    else:
        answer.update(fill(message, with_skipped))
    encoded = message.SerializeToString(deterministic=True)
    if with_skipped:
        # Fields in the reverse order, which is as valid. Nothing above the top level is reordered.
        encoded = b"".join(reversed(list(top_level_fields(encoded))))
    frame = (varint(len(encoded)) + encoded).hex()
    text = json.dumps(answer, ensure_ascii=False, separators=(",", ":"))
    return f"{kind}\t{'more' if with_skipped else 'same'}\t{frame}\t{text}"


def top_level_fields(encoded):
    at = 0
    while at < len(encoded):
        start = at
        tag, at = take(encoded, at)
        value, at = take(encoded, at)
        if tag & 7 == 2:
            at += value
        yield encoded[start:at]


def take(encoded, at):
    value = shift = 0
    while True:
        byte = encoded[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at


def main():
    for with_skipped in (False, True):
        for kind in ("command", "reply"):
            for _ in range(120):
                print(line(kind, with_skipped))


main()
