"""A Pipecat bot with local parts only, behind `FastAPIWebsocketTransport` and `ProtobufFrameSerializer`. Takes one call, then ends.

Tells JSON lines: `port`, then at the end of the call `heard` (seconds of audio, its rates, the strongest frequency of each whole second that
is not silent) and `messages` (the types of the RTVI messages that came).

Modes: `echo` sends back what it hears; `tone HZ` waits until the caller has spoken and been silent for half a second, answers with two seconds
of a tone, and hangs up; `--no-rtvi` runs the pipeline without RTVI.
"""

import argparse
import asyncio
import json
import math
import socket
import sys

import numpy
import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.frames.frames import (
    EndWorkerFrame,
    InputAudioRawFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

options = argparse.ArgumentParser()
options.add_argument("mode", choices=("echo", "tone"))
options.add_argument("hz", nargs="?", type=float)
options.add_argument("--no-rtvi", action="store_true")
options.add_argument("--rate-out", type=int, default=24000)
options = options.parse_args()

logger.remove()
logger.add(sys.stderr, level="WARNING")


def tell(what, **more):
    print(json.dumps({"told": what, **more}), flush=True)


class Bot(FrameProcessor):
    def __init__(self):
        super().__init__()
        self.heard, self.rates, self.messages = bytearray(), set(), []
        self.quiet = None  # seconds since the caller's last sound

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.heard += frame.audio
            self.rates.add(frame.sample_rate)
            if options.mode == "echo":
                await self.push_frame(OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels))
            elif options.mode == "tone":
                samples = numpy.frombuffer(frame.audio, dtype="<i2")
                await self.listen(numpy.abs(samples.astype(int)).max(initial=0) > 1000, len(samples) / frame.sample_rate)
            return
        if isinstance(frame, InputTransportMessageFrame):
            self.messages.append(frame.message.get("type"))
        await self.push_frame(frame, direction)

    async def listen(self, loud, seconds):
        if loud:
            self.quiet = 0.0
        elif self.quiet is not None:
            before, self.quiet = self.quiet, self.quiet + seconds
            if before < 0.5 <= self.quiet:
                await self.say_a_tone()
                await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)

    async def say_a_tone(self):
        rate = options.rate_out
        samples = 8000 * numpy.sin(math.tau * options.hz * numpy.arange(2 * rate) / rate)
        await self.push_frame(TTSStartedFrame())
        await self.push_frame(TTSAudioRawFrame(samples.astype("<i2").tobytes(), rate, 1))
        await self.push_frame(TTSStoppedFrame())


def strongest(samples, rate):
    for second in numpy.split(samples[: len(samples) // rate * rate], max(len(samples) // rate, 1)):
        if numpy.abs(second).max(initial=0) > 1000:
            yield float(numpy.abs(numpy.fft.rfft(second)).argmax())


app = FastAPI()


@app.websocket("/ws")
async def call(websocket: WebSocket):
    await websocket.accept()
    params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer())
    transport, bot = FastAPIWebsocketTransport(websocket, params), Bot()
    worker = PipelineWorker(
        Pipeline([transport.input(), bot, transport.output()]),
        params=PipelineParams(audio_out_sample_rate=options.rate_out),
        enable_rtvi=not options.no_rtvi,
    )

    @transport.event_handler("on_client_disconnected")
    async def gone(_transport, _websocket):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    samples = numpy.frombuffer(bytes(bot.heard), dtype="<i2").astype(float)
    rate = next(iter(bot.rates), 16000)
    tell("heard", seconds=len(samples) / rate, rates=sorted(bot.rates), hz=list(strongest(samples, rate)), messages=bot.messages)
    server.should_exit = True


listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
tell("port", port=listener.getsockname()[1])
asyncio.run(server.serve(sockets=[listener]))
