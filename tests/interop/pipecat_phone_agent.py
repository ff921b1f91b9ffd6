"""A Pipecat bot with local parts only behind a telephony provider: `FastAPIWebsocketTransport` with the provider's serializer. Takes one call,
then ends.

Tells JSON lines: `port`, then at the end of the call `heard` (seconds of audio, its rate, the strongest frequency of each whole second that is not
silent, the keys that were pressed, and what its runner found out about the call).

Modes: `echo` sends back what it hears; `tone HZ` waits until the caller has spoken and been silent for half a second, answers with two seconds
of a tone, and hangs up; `scripted` greets and answers as `pipecat_bot.py` does, can be interrupted, and tells what that tells.
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
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.exotel import ExotelFrameSerializer
from pipecat.serializers.genesys import GenesysAudioHookSerializer
from pipecat.serializers.plivo import PlivoFrameSerializer
from pipecat.serializers.telnyx import TelnyxFrameSerializer
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.serializers.vonage import VonageFrameSerializer
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner
from pipecat_sound import SoundBot, seconds_and_tones

options = argparse.ArgumentParser()
options.add_argument("serializer", choices=("twilio", "telnyx", "plivo", "exotel", "vonage", "genesys"))
options.add_argument("mode", choices=("echo", "tone", "scripted"))
options.add_argument("hz", nargs="?", type=float)
options = options.parse_args()
# A serializer resamples to the pipeline's rate, and this is the one that the phone has.
RATE = 16000 if options.serializer == "vonage" else 8000

logger.remove()
logger.add(sys.stderr, level="WARNING")


def tell(what, **more):
    print(json.dumps({"told": what, **more}), flush=True)


async def serializer(websocket):
    """The provider's serializer, and what the runner finds out about the call."""
    if options.serializer == "vonage":
        return VonageFrameSerializer(), None
    if options.serializer == "genesys":
        return GenesysAudioHookSerializer(), None
    found, call = await parse_telephony_websocket(websocket)
    stream, by_hand = call["stream_id"], {"auto_hang_up": False}
    match found:
        case "twilio":
            made = TwilioFrameSerializer(stream, params=TwilioFrameSerializer.InputParams(**by_hand))
        case "telnyx":
            coding = call["outbound_encoding"]
            made = TelnyxFrameSerializer(stream, coding, coding, params=TelnyxFrameSerializer.InputParams(**by_hand))
        case "plivo":
            made = PlivoFrameSerializer(stream, params=PlivoFrameSerializer.InputParams(**by_hand))
        case "exotel":
            made = ExotelFrameSerializer(stream)
    return made, {"transport": found, **call.model_dump(exclude_none=True)}


app = FastAPI()


@app.websocket("/ws")
async def call(websocket: WebSocket):
    await websocket.accept()
    made, found = await serializer(websocket)
    params = FastAPIWebsocketParams(audio_in_enabled=True, audio_out_enabled=True, serializer=made)
    transport = FastAPIWebsocketTransport(websocket, params)
    if options.mode == "scripted":
        await converse(transport)
    else:
        await sound(transport, found)
    server.should_exit = True


async def converse(transport):
    import pipecat_bot

    script = argparse.Namespace(mode="scripted", greet=True, pause=0.3, hang_up_after=None, function=None, slow_start=0.0)
    script.rate_out, script.no_rtvi = RATE, True
    await pipecat_bot.run_bot(transport, None, script)


async def sound(transport, found):
    bot = SoundBot(options.mode, options.hz, RATE)
    worker = PipelineWorker(
        Pipeline([transport.input(), bot, transport.output()]),
        params=PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE),
    )

    @transport.event_handler("on_client_disconnected")
    async def gone(_transport, _websocket):
        await worker.cancel()

    runner = WorkerRunner(handle_sigint=False)
    await runner.add_workers(worker)
    await runner.run()
    tell("heard", rate=RATE, digits=bot.digits, call=found, **seconds_and_tones(bot.heard, RATE))


listener = socket.create_server(("127.0.0.1", 0))
server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio"))
tell("port", port=listener.getsockname()[1])
asyncio.run(server.serve(sockets=[listener]))
