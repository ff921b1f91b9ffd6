"""Pipecat's own telephony serializers as an oracle. Reads a JSON object a line, answers with one.

`{"dialect", "format", "read": [message...]}`: what Pipecat understands of a provider's messages: `audio` (base64 of 16 bits), `digits`, `answers`
(what it says at once), and for the dialects that its runner tells apart, `detected` and `call`.
`{"dialect", "format", "write": [frame...], "after": [message...]}`: the messages into which it puts frames: `{"audio"}`, `"interruption"`, `"end"`; `after` is
read first. A binary message is `{"binary": base64}`.
"""

import asyncio
import base64
import json
import sys
from types import SimpleNamespace

from loguru import logger
from pipecat.frames.frames import (
    EndFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer

logger.remove()
STREAMS = ("twilio", "telnyx", "plivo", "exotel")


def rate_of(form):
    return int(form.split("@")[1]) if "@" in form else 8000


def serializer(dialect, form, stream):
    rate = rate_of(form)
    match dialect:
        case "twilio":
            made = TwilioFrameSerializer(stream, params=TwilioFrameSerializer.InputParams(auto_hang_up=False))
        case "telnyx":
            made = TelnyxFrameSerializer(stream, form, form, params=TelnyxFrameSerializer.InputParams(auto_hang_up=False))
        case "plivo":
            made = PlivoFrameSerializer(stream, params=PlivoFrameSerializer.InputParams(auto_hang_up=False))
        case "exotel":
            made = ExotelFrameSerializer(stream, params=ExotelFrameSerializer.InputParams(exotel_sample_rate=rate))
        case "vonage":
            made = VonageFrameSerializer(VonageFrameSerializer.InputParams(vonage_sample_rate=rate))
        case "genesys":
            made = GenesysAudioHookSerializer()
    return made, rate


class Fake:
    """A WebSocket that has these text messages."""

    def __init__(self, messages):
        self.messages = messages

    async def iter_text(self):
        for message in self.messages:
            yield json.dumps(message)


def wire(message):
    return base64.b64decode(message["binary"]) if "binary" in message else json.dumps(message)


def shown(message):
    return {"binary": base64.b64encode(message).decode()} if isinstance(message, bytes) else json.loads(message)


async def read(made, messages):
    audio, digits, answers = b"", [], []
    for message in messages:
        frame = await made.deserialize(wire(message))
        if isinstance(frame, InputAudioRawFrame):
            audio += frame.audio
        elif isinstance(frame, InputDTMFFrame):
            digits.append(frame.button.value)
        elif isinstance(frame, OutputTransportMessageUrgentFrame):
            answers.append(frame.message)
    return {"audio": base64.b64encode(audio).decode(), "digits": digits, "answers": answers}


async def answer(asked):
    dialect, form = asked["dialect"], asked["format"]
    messages = asked.get("read", asked.get("after", []))
    told, stream = {}, ""
    if dialect in STREAMS and messages:
        told["detected"], call = await parse_telephony_websocket(Fake(messages))
        told["call"], stream = call.model_dump(exclude_none=True), call["stream_id"]
    made, rate = serializer(dialect, form, stream)
    await made.setup(SimpleNamespace(audio_in_sample_rate=rate))
    told |= await read(made, messages)
    if "write" in asked:
        told["messages"] = []
        for frame in asked["write"]:
            if frame == "interruption":
                frame = InterruptionFrame()
            elif frame == "end":
                frame = EndFrame()
            else:
                frame = OutputAudioRawFrame(base64.b64decode(frame["audio"]), rate, 1)
            message = await made.serialize(frame)
            told["messages"] += [] if message is None else [shown(message)]
    return told


for line in sys.stdin:
    print(json.dumps(asyncio.run(answer(json.loads(line)))), flush=True)
