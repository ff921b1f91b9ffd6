"""An independent CHIRP caller (a WebSocket client), written from the protocol and not from Trunkline's code.

Plays one of its ways to call, and prints a JSON summary of what it got.
"""

import argparse
import asyncio
import base64
import json
import math
import struct
import sys
import time
import uuid

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus

RATE = 16000
FRAME = 640


def speech(seconds):
    out = bytearray()
    for n in range(int(seconds * RATE)):
        t = n / RATE
        swell = 0.55 - 0.45 * math.cos(2 * math.pi * 4 * t)
        out += struct.pack("<h", int(5000 * swell * sum(math.sin(2 * math.pi * 150 * k * t) / k for k in range(1, 12))))
    return bytes(out)


class Caller:
    def __init__(self):
        self.started = time.monotonic()
        self.got = {"frames": 0, "bytes": 0, "arrivals": [], "events": [], "errors": []}
        self.first_audio = asyncio.Event()
        self.completed = asyncio.Event()

    def event(self, kind, data):
        at = int((time.monotonic() - self.started) * 1000)
        return json.dumps({"type": kind, "id": str(uuid.uuid4()), "ts_ms": at, "data": data})

    async def read(self, ws):
        try:
            async for message in ws:
                now = time.monotonic() - self.started
                if isinstance(message, bytes):
                    self.got["frames"] += 1
                    self.got["bytes"] += len(message)
                    self.got["arrivals"].append([round(now, 4), len(message)])
                    self.first_audio.set()
                else:
                    body = json.loads(message)
                    self.got["events"].append({"at": now, **body})
                    if body["type"] == "session.error":
                        self.got["errors"].append(body["data"]["code"])
                    if body["type"] == "speech.completed":
                        self.completed.set()
        except ConnectionClosed:
            pass
        self.got["close_code"] = ws.close_code
        self.got["close_reason"] = ws.close_reason

    async def play(self, ws, audio):
        """20 ms frames on the clock."""
        start = time.monotonic()
        for number, at in enumerate(range(0, len(audio), FRAME)):
            await asyncio.sleep(max(0, start + number * 0.02 - time.monotonic()))
            await ws.send(audio[at : at + FRAME])

    async def talk(self, ws, args):
        await self.play(ws, bytes(FRAME * 25))
        utterance = str(uuid.uuid4())
        await ws.send(self.event("speech.started", {"utterance_id": utterance}))
        await self.play(ws, speech(1.0))
        await ws.send(self.event("speech.completed", {"utterance_id": utterance}))
        await self.play(ws, bytes(int(args.seconds * RATE) * 2))

    async def interrupt(self, ws, args):
        """Waits for the agent's speech and speaks over it."""
        await asyncio.wait_for(self.first_audio.wait(), 10)
        await self.play(ws, bytes(FRAME * 50))
        self.got["interrupted_at"] = time.monotonic() - self.started
        await ws.send(self.event("speech.started", {"utterance_id": "interruption"}))
        await self.play(ws, speech(1.0))
        await ws.send(self.event("speech.completed", {"utterance_id": "interruption"}))
        await self.play(ws, bytes(FRAME * 50))

    async def interrupt_by_voice(self, ws, args):
        """The same without a word of it: the agent's own detector must hear the caller."""
        await asyncio.wait_for(self.first_audio.wait(), 10)
        await self.play(ws, bytes(FRAME * 50))
        self.got["interrupted_at"] = time.monotonic() - self.started
        await self.play(ws, speech(1.0))
        await self.play(ws, bytes(FRAME * 50))

    async def hostile(self, ws, args):
        wrong = [b"\0", b"", b"\0" * 641, "not json", "[]", "{}", json.dumps({"type": "x", "id": "1", "ts_ms": 1, "data": {}})]
        for message in wrong:
            await ws.send(message)
        await ws.send(self.event("speech.started", {}))
        await ws.send(self.event("speech.completed", {"utterance_id": "never-started"}))
        await self.talk(ws, args)

    async def huge(self, ws, args):
        try:
            await ws.send(bytes(3_000_000))
            await asyncio.sleep(args.seconds)
        except ConnectionClosed:
            pass

    async def idle(self, ws, args):
        await ws.wait_closed()

    async def vanish(self, ws, args):
        await self.play(ws, bytes(FRAME * 25))
        ws.transport.abort()

    async def stay(self, ws, args):
        """Says that it is connected, and stays on the line until its stdin is closed."""
        print(json.dumps({"connected": True}), flush=True)
        closed = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        while not closed.done():
            await self.play(ws, bytes(FRAME))
            await asyncio.sleep(0.02)

    async def hold(self, ws, args):
        """Stays on the line until it is closed, or for so long."""
        try:
            await self.play(ws, bytes(int(args.seconds * RATE) * 2))
        except ConnectionClosed:
            pass

    async def talk_and_hold(self, ws, args):
        """Talks, and stays on the line until it is closed, or for so long."""
        try:
            await self.talk(ws, args)
        except ConnectionClosed:
            pass


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--mode", default="talk")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--credentials")
    parser.add_argument("--header", action="append", default=[])
    args = parser.parse_args()
    headers = dict(header.split("=", 1) for header in args.header)
    if args.credentials:
        headers["Authorization"] = "Basic " + base64.b64encode(args.credentials.encode()).decode()
    caller = Caller()
    try:
        async with connect(args.url, additional_headers=headers, max_size=None) as ws:
            reading = asyncio.create_task(caller.read(ws))
            await getattr(caller, args.mode.replace("-", "_"))(ws, args)
            if args.mode not in ("huge", "idle", "vanish"):
                await ws.close(1000)
            await asyncio.wait_for(reading, 20)
    except InvalidStatus as refused:
        caller.got["refused"] = refused.response.status_code
    except (InvalidMessage, OSError) as failed:
        caller.got["failed"] = str(failed)
    print(json.dumps(caller.got), flush=True)


asyncio.run(main())
