"""A Pipecat bot with local parts only, behind `FastAPIWebsocketTransport` and `ProtobufFrameSerializer`. Takes one call, then ends.

Tells JSON lines: `port`, then at the end of the call `heard` (seconds of audio, its rates, the strongest frequency of each whole second that
is not silent) and `messages` (the types of the RTVI messages that came).

Modes: `echo` sends back what it hears; `tone HZ` waits until the caller has spoken and been silent for half a second, answers with two seconds
of a tone, and hangs up; `--no-rtvi` runs the pipeline without RTVI.
"""

import argparse
import asyncio
import json
import socket
import sys

import uvicorn
from fastapi import FastAPI, WebSocket
from loguru import logger
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner
from pipecat_sound import SoundBot, seconds_and_tones

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


app = FastAPI()


@app.websocket("/ws")
async def call(websocket: WebSocket):
    await websocket.accept()
    params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer())
    transport, bot = FastAPIWebsocketTransport(websocket, params), SoundBot(options.mode, options.hz, options.rate_out)
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
    rate = next(iter(bot.rates), 16000)
    tell("heard", rates=sorted(bot.rates), messages=bot.messages, **seconds_and_tones(bot.heard, rate))
    server.should_exit = True


listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
tell("port", port=listener.getsockname()[1])
asyncio.run(server.serve(sockets=[listener]))
