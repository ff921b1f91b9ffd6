"""A bridge as one would write it in Python: CHIRP callers (raw 16 kHz audio over a WebSocket) in front of a Pipecat WebSocket agent, with Pipecat's own
serializer. It records nothing and measures nothing.

usage: pipecat_bridge.py ws://AGENT/
"""

import asyncio
import sys

from loguru import logger
from pipecat.frames.frames import InputAudioRawFrame, OutputAudioRawFrame
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from websockets.asyncio.client import connect
from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

logger.remove()
RATE = 16000


async def bridge(caller):
    async with connect(sys.argv[1], compression=None) as agent:
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


async def main():
    async with serve(bridge, "127.0.0.1", 0, compression=None) as server:
        host, port = server.sockets[0].getsockname()[:2]
        print(f"listening chirp {host}:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
