"""A Pipecat pipeline that calls: `WebsocketClientTransport` with `ProtobufFrameSerializer`, as a client of a bot's WebSocket.

Says that it is ready; once the bot is, speaks (`--tone HZ` for three seconds, or `--speech FILE`), and sends silence on. When a message
of the type `--until` came (or, without, five seconds of sound), sends each `--message TYPE=JSON`, waits for `--answer TYPE` and then asks the bot to
hang up. Tells one JSON line: `ready` (the bot's answer), the `messages` that came, `interruptions`, the `rates` of the sound and its strongest
frequency in each whole second that is not silent (`hz`), and the `close_code`.
"""

import argparse
import asyncio
import json
import math
import sys
import wave

import numpy
from loguru import logger
from pipecat.frames.frames import (
    InputAudioRawFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    OutputAudioRawFrame,
    OutputTransportMessageUrgentFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameProcessor
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.client import WebsocketClientParams, WebsocketClientTransport
from pipecat.workers.runner import WorkerRunner

options = argparse.ArgumentParser()
options.add_argument("url")
options.add_argument("--version", default="2.2.0")
options.add_argument("--tone", type=float)
options.add_argument("--speech")
options.add_argument("--until")
options.add_argument("--message", action="append", default=[])
options.add_argument("--answer")
options.add_argument("--bearer")
options = options.parse_args()

logger.remove()
logger.add(sys.stderr, level="WARNING")
RATE = 16000


def speech():
    if options.speech:
        with wave.open(options.speech) as file:
            assert file.getframerate() == RATE
            return file.readframes(file.getnframes())
    samples = 8000 * numpy.sin(math.tau * (options.tone or 0) * numpy.arange(3 * RATE) / RATE)
    return samples.astype("<i2").tobytes()


class Caller(FrameProcessor):
    def __init__(self):
        super().__init__()
        self.heard, self.rates, self.messages, self.ready, self.interruptions = bytearray(), set(), [], None, 0
        self.came = asyncio.Event()

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.heard += frame.audio
            self.rates.add(frame.sample_rate)
        elif isinstance(frame, InputTransportMessageFrame):
            self.messages.append(frame.message)
        elif isinstance(frame, InterruptionFrame):
            self.interruptions += 1
        else:
            await self.push_frame(frame, direction)
            return
        self.came.set()

    async def wait(self, done):
        while not done():
            self.came.clear()
            await asyncio.wait_for(self.came.wait(), 30)

    def got(self, kind):
        return any(message.get("type") == kind for message in self.messages)

    async def say(self, kind, data=None):
        message = {"label": "rtvi-ai", "type": kind, "id": f"caller-{kind}", **({"data": data} if data is not None else {})}
        await self.push_frame(OutputTransportMessageUrgentFrame(message=message))

    async def speak(self):
        audio = speech() + bytes(2 * RATE * 30)
        for at in range(0, len(audio), RATE // 25):
            await self.push_frame(OutputAudioRawFrame(audio[at : at + RATE // 25], RATE, 1))

    async def converse(self):
        await self.say("client-ready", {"version": options.version, "about": {"library": "pipecat-ai"}})
        await self.wait(lambda: self.got("bot-ready"))
        await self.speak()
        enough = lambda: len(self.heard) >= 5 * 2 * max(self.rates, default=RATE)
        await self.wait(lambda: self.got(options.until) if options.until else enough())
        for message in options.message:
            kind, data = message.split("=", 1)
            await self.say(kind, json.loads(data))
        if options.answer:
            await self.wait(lambda: self.got(options.answer))
        await self.say("disconnect-bot")


def strongest(samples, rate):
    for second in numpy.split(samples[: len(samples) // rate * rate].astype(float), max(len(samples) // rate, 1)):
        if numpy.abs(second).max(initial=0) > 1000:
            yield float(numpy.abs(numpy.fft.rfft(second)).argmax())


async def main():
    headers = {"Authorization": f"Bearer {options.bearer}"} if options.bearer else None
    params = WebsocketClientParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer(), additional_headers=headers
    )
    transport, caller, codes = WebsocketClientTransport(options.url, params), Caller(), []
    worker = PipelineWorker(
        Pipeline([transport.input(), caller, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=24000, audio_out_sample_rate=RATE),
        enable_rtvi=False,
    )

    @worker.event_handler("on_pipeline_started")
    async def started(_worker, _frame):
        caller.conversation = asyncio.create_task(caller.converse())

    @transport.event_handler("on_disconnected")
    async def gone(_transport, websocket):
        codes.append(websocket.close_code)
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    if caller.conversation.done():
        caller.conversation.result()
    rate = max(caller.rates, default=RATE)
    samples = numpy.frombuffer(bytes(caller.heard), dtype="<i2")
    ready = next((message for message in caller.messages if message.get("type") == "bot-ready"), None)
    told = {"ready": ready, "messages": caller.messages, "interruptions": caller.interruptions, "rates": sorted(caller.rates)}
    print(json.dumps({**told, "hz": list(strongest(samples, rate)), "close_code": codes[0] if codes else None}))


asyncio.run(main())
