"""A bridge as one would write it in Python: CHIRP callers (raw 16 kHz audio over a WebSocket) in front of a Pipecat WebSocket agent. It records nothing and
measures nothing.

usage: pipecat_bridge.py ws://AGENT/ [--transports]

Sockets alone, with Pipecat's own serializer; with `--transports` two pipelines of Pipecat's own transports, which pace and mix as Trunkline does.
"""

import asyncio
import socket
import sys

from loguru import logger
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame
from pipecat.serializers.base_serializer import FrameSerializer
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

logger.remove()
AGENT, RATE = sys.argv[1], 16000


def listening(address):
    print("listening chirp {}:{}".format(*address[:2]), flush=True)


async def sockets(caller):
    async with connect(AGENT, compression=None) as agent:
        to_agent, from_agent = ProtobufFrameSerializer(), ProtobufFrameSerializer()

        async def back():
            async for message in agent:
                frame = await from_agent.deserialize(message)
                if isinstance(frame, InputAudioRawFrame):
                    await caller.send(frame.audio)

        hearing = asyncio.create_task(back())
        try:
            async for message in caller:
                if isinstance(message, bytes):
                    await agent.send(await to_agent.serialize(OutputAudioRawFrame(message, RATE, 1)))
        except ConnectionClosed:
            pass
        hearing.cancel()


async def serve_sockets():
    async with serve(sockets, "127.0.0.1", 0, compression=None) as server:
        listening(server.sockets[0].getsockname())
        await server.serve_forever()


class Raw(FrameSerializer):
    """CHIRP's audio."""

    async def serialize(self, frame):
        return frame.audio if isinstance(frame, OutputAudioRawFrame) else None

    async def deserialize(self, data):
        return InputAudioRawFrame(data, RATE, 1) if isinstance(data, bytes) else None


async def serve_transports():
    import uvicorn
    from fastapi import FastAPI, WebSocket
    from pipecat.pipeline.pipeline import Pipeline
    from pipecat.pipeline.worker import PipelineParams, PipelineWorker
    from pipecat.processors.frame_processor import FrameProcessor
    from pipecat.transports.websocket.client import WebsocketClientParams, WebsocketClientTransport
    from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
    from pipecat.workers.runner import WorkerRunner

    class Pass(FrameProcessor):
        """What one side says goes to the other."""

        async def process_frame(self, frame, direction):
            await super().process_frame(frame, direction)
            if isinstance(frame, InputAudioRawFrame):
                frame = OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels)
            await self.push_frame(frame, direction)

    app = FastAPI()

    @app.websocket("/")
    async def call(websocket: WebSocket):
        await websocket.accept()
        sound = {"audio_in_enabled": True, "audio_out_enabled": True, "audio_out_10ms_chunks": 2}
        caller = FastAPIWebsocketTransport(websocket, FastAPIWebsocketParams(serializer=Raw(), **sound))
        params = WebsocketClientParams(serializer=ProtobufFrameSerializer(), add_wav_header=False, **sound)
        agent, runner = WebsocketClientTransport(AGENT, params), WorkerRunner(handle_sigint=False)
        rates = PipelineParams(audio_in_sample_rate=RATE, audio_out_sample_rate=RATE)
        ways = [(caller, agent), (agent, caller)]
        workers = [PipelineWorker(Pipeline([a.input(), Pass(), b.output()]), params=rates, enable_rtvi=False) for a, b in ways]

        @caller.event_handler("on_client_disconnected")
        async def gone(_transport, _websocket):
            for worker in workers:
                await worker.cancel()

        for worker in workers:
            await runner.add_workers(worker)
        await runner.run()

    listener = socket.create_server(("127.0.0.1", 0))
    listening(listener.getsockname())
    await uvicorn.Server(uvicorn.Config(app, log_level="critical", ws="websockets-sansio")).serve(sockets=[listener])


asyncio.run(serve_transports() if "--transports" in sys.argv else serve_sockets())
