"""A bot's side of SmallWebRTC, of Pipecat's own parts (`SmallWebRTCRequestHandler`, `SmallWebRTCConnection` over aiortc), that does on command
what a pipeline does seldom. Sends a tone of 440 Hz all the time. Offers 127.0.0.1 and nothing else.

Tells JSON lines on stdout: `port`; `offer` for each offer (the body it came with, whether it is a renegotiation, its candidates); `trickled`;
`connected`; `message` for each message of the application; `closed`; `heard` on command and at the end.

Commands on stdin, a line each: `renegotiate` asks for another offer; `cut` lets nothing through on the connections that there are;
`mend` lets it through again; `send TEXT` says TEXT on the data channel; `heard`; `leave` hangs up.
"""

import asyncio
import json
import socket
import sys

import aioice.ice
import uvicorn
from aiortc_sound import Ears, Tone
from fastapi import FastAPI, HTTPException
from loguru import logger
from pipecat.transports.smallwebrtc.request_handler import (
    SmallWebRTCPatchRequest,
    SmallWebRTCRequest,
    SmallWebRTCRequestHandler,
)

logger.remove()


def tell(what, **more):
    print(json.dumps({"told": what, **more}), flush=True)


class Wire:
    """Holds back what goes over the connections that were there when it was cut."""

    cut, there = set(), set()

    @classmethod
    def gate(cls, name):
        whole = getattr(aioice.ice.StunProtocol, name)

        def gated(self, *arguments):
            cls.there.add(self)
            if self in cls.cut:
                # What is sent may be waited for; what is received is not.
                return asyncio.sleep(0) if asyncio.iscoroutinefunction(whole) else None
            return whole(self, *arguments)

        setattr(aioice.ice.StunProtocol, name, gated)


for method in ("datagram_received", "send_data", "send_stun"):
    Wire.gate(method)


ears, connections, server = Ears(), [], None
app, handler = FastAPI(), SmallWebRTCRequestHandler()


async def begin(connection):
    connections.append(connection)

    @connection.event_handler("app-message")
    async def message(_connection, message):
        tell("message", message=message)
        if message.get("type") == "client-ready":
            connection.send_app_message({"label": "rtvi-ai", "type": "bot-ready", "id": message["id"], "data": {"version": "2.2.0"}})

    @connection.event_handler("connected")
    async def connected(connection):
        tell("connected")
        play(connection)

    @connection.event_handler("track-status")
    async def status(_connection, index, enabled):
        tell("track", index=index, enabled=enabled)

    @connection.event_handler("closed")
    async def closed(_connection):
        tell("closed")

    await connection.connect()


def play(connection):
    connection.replace_audio_track(Tone(440))
    asyncio.ensure_future(ears.listen(connection.audio_input_track()))


@app.post("/api/offer")
async def offer(request: SmallWebRTCRequest):
    candidates = [line for line in request.sdp.splitlines() if line.startswith("a=candidate:")]
    tell("offer", body=request.request_data, again=request.pc_id is not None, restart=bool(request.restart_pc), candidates=candidates)
    return await handler.handle_web_request(request, begin)


@app.patch("/api/offer")
async def trickle(request: SmallWebRTCPatchRequest):
    tell("trickled", candidates=[candidate.candidate for candidate in request.candidates])
    await handler.handle_patch_request(request)
    return {"status": "success"}


@app.post("/refuses")
async def refuse():
    raise HTTPException(503, "no more bots today")


@app.post("/nonsense")
async def nonsense():
    return {"sdp": "v=0", "type": "answer", "pc_id": "1"}


@app.post("/nowhere")
async def nowhere(request: SmallWebRTCRequest):
    """An answer whose candidates lead nowhere: nobody takes datagrams there."""
    answer = await handler.handle_web_request(request, begin)
    lines = [line for line in answer["sdp"].splitlines() if not line.startswith("a=candidate:")]
    at = next(at for at, line in enumerate(lines) if line.startswith("a=mid:"))
    lines.insert(at + 1, "a=candidate:1 1 udp 2130706431 127.0.0.1 9 typ host")
    Wire.cut |= Wire.there
    return answer | {"sdp": "\r\n".join(lines) + "\r\n"}


async def command(line):
    what, _, rest = line.partition(" ")
    connection = connections[-1]
    if what == "renegotiate":
        connection.ask_to_renegotiate()
    elif what == "cut":
        Wire.cut |= Wire.there
    elif what == "mend":
        Wire.cut.clear()
    elif what == "send":
        connection._data_channel.send(rest)
    elif what == "heard":
        tell("heard", **ears.heard())
    elif what == "leave":
        await connection.disconnect()


async def commands():
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := (await reader.readline()).decode().strip():
        await command(line)
    server.should_exit = True


async def main():
    global server
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="critical", timeout_graceful_shutdown=1))
    asking = asyncio.create_task(commands())
    tell("port", port=listener.getsockname()[1])
    await server.serve(sockets=[listener])
    asking.cancel()
    tell("heard", **ears.heard())


asyncio.run(main())
