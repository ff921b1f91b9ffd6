"""An independent CHIRP agent (a WebSocket server), written from the protocol and not from Trunkline's code.

Its first line on stdout is {"port": N}. After the one call that it takes it prints a JSON summary of what it saw, and exits.
"""

import argparse
import asyncio
import base64
import json
import math
import struct
import time
import uuid
from http import HTTPStatus

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed

RATE = 16000
FRAME = 640


def tone(seconds, hz=440):
    """Speech-like enough for a detector: a buzz with harmonics that swells four times a second."""
    out = bytearray()
    for n in range(int(seconds * RATE)):
        t = n / RATE
        swell = 0.55 - 0.45 * math.cos(2 * math.pi * 4 * t)
        value = sum(math.sin(2 * math.pi * 140 * k * t) / k for k in range(1, 12))
        out += struct.pack("<h", int(5000 * swell * value))
    return bytes(out)


def event(kind, data, started):
    body = {"type": kind, "id": str(uuid.uuid4()), "ts_ms": int((time.monotonic() - started) * 1000), "data": data}
    return json.dumps(body)


class Agent:
    def __init__(self, mode, seconds):
        self.mode = mode
        self.seconds = seconds
        self.seen = {"frames": 0, "bytes": 0, "odd_frames": 0, "events": [], "close_code": None, "headers": {}}
        self.speaking = None
        self.done = asyncio.get_running_loop().create_future()

    async def handle(self, ws):
        self.started = time.monotonic()
        self.seen["headers"] = {k.lower(): v for k, v in ws.request.headers.raw_items()}
        try:
            await getattr(self, "mode_" + self.mode.replace("-", "_"))(ws)
            await ws.wait_closed()
        except ConnectionClosed:
            pass
        self.seen["close_code"] = ws.close_code
        self.seen["close_reason"] = ws.close_reason
        self.seen["seconds"] = time.monotonic() - self.started
        if not self.done.done():
            self.done.set_result(None)

    async def read(self, ws, on_audio=None):
        async for message in ws:
            if isinstance(message, bytes):
                self.seen["frames"] += 1
                self.seen["bytes"] += len(message)
                self.seen["odd_frames"] += len(message) % 2
                if on_audio:
                    await on_audio(message)
                continue
            body = json.loads(message)
            self.seen["events"].append({"at": time.monotonic() - self.started, **body})
            if body["type"] == "speech.started" and self.speaking:
                utterance, self.speaking = self.speaking, None
                await ws.send(event("speech.completed", {"utterance_id": utterance}, self.started))

    async def say_at_once(self, ws, seconds):
        """The whole speech faster than real time, in big messages, as a text-to-speech engine gives it."""
        audio = tone(seconds)
        self.speaking = str(uuid.uuid4())
        await ws.send(event("speech.started", {"utterance_id": self.speaking}, self.started))
        for at in range(0, len(audio), 32000):
            await ws.send(audio[at : at + 32000])

    async def mode_echo(self, ws):
        await self.read(ws, on_audio=ws.send)

    async def mode_burst(self, ws):
        await self.say_at_once(ws, self.seconds)
        await self.read(ws)

    async def mode_never_speaks(self, ws):
        await self.read(ws)

    async def mode_slow_reader(self, ws):
        await ws.send(tone(0.6))
        # Reads nothing: what is sent to it backs up in every buffer on the way.
        await asyncio.sleep(self.seconds)
        await self.read(ws)

    async def mode_sudden_close(self, ws):
        await ws.send(tone(0.4))
        await asyncio.sleep(0.5)
        ws.transport.abort()

    async def mode_goodbye(self, ws):
        """Says its goodbye in one burst and hangs up at once."""
        await ws.send(tone(self.seconds))
        await ws.close(1000)

    async def mode_refuse(self, ws):
        await ws.close(1008, "not today")

    async def mode_fail(self, ws):
        await ws.send(event("session.error", {"code": "INTERNAL_ERROR", "message": "out of order"}, self.started))
        await ws.close(1011, "out of order")

    async def mode_hostile(self, ws):
        for message in (b"\0", b"", b"\0" * 641, "not json", "[]", "{}", '{"type": "speech.started"}', json.dumps({"type": "x", "id": "1", "ts_ms": 1, "data": {}})):
            await ws.send(message)
        await ws.send(event("speech.started", {}, self.started))
        await ws.send(event("speech.completed", {"utterance_id": "never-started"}, self.started))
        await self.say_at_once(ws, 1.0)
        await self.read(ws)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", required=True)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--credentials")
    args = parser.parse_args()
    agent = Agent(args.mode, args.seconds)
    expected = args.credentials and "Basic " + base64.b64encode(args.credentials.encode()).decode()

    def check(connection, request):
        if expected and request.headers.get("Authorization") != expected:
            agent.seen["refused"] = agent.seen.get("refused", 0) + 1
            return connection.respond(HTTPStatus.UNAUTHORIZED, "no\n")
        return None

    async with serve(agent.handle, "127.0.0.1", 0, process_request=check, max_size=None) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
        await agent.done
    print(json.dumps(agent.seen), flush=True)


asyncio.run(main())
