"""An independent chat caller (a WebSocket client, Cekura's side), written from the protocol and not from Trunkline's code.

Plays one of its ways to chat, and prints a JSON summary of what it got.
"""

import argparse
import asyncio
import json
import sys
import time

from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidMessage, InvalidStatus


class Caller:
    def __init__(self, args):
        self.args = args
        self.started = time.monotonic()
        self.got = {"frames": [], "order": []}
        self.news = asyncio.Event()

    async def read(self, ws):
        try:
            async for message in ws:
                frame = json.loads(message)
                self.got["frames"].append(frame)
                self.news.set()
        except ConnectionClosed:
            pass
        self.got["close_code"] = ws.close_code
        self.got["close_reason"] = ws.close_reason
        self.got["closed_after"] = time.monotonic() - self.started
        self.news.set()

    async def until(self, ws, condition):
        async with asyncio.timeout(60):
            while not any(condition(frame) for frame in self.got["frames"]):
                if "close_code" in self.got:
                    return False
                self.news.clear()
                await self.news.wait()
        return True

    def says(self, text):
        return lambda frame: text in (frame.get("content") or "")

    async def talk(self, ws):
        """Says its lines, each after an answer to the one before; then ends the session as Cekura does."""
        await self.lines(ws)
        await ws.send(json.dumps({"type": "end_call"}))
        await asyncio.sleep(1)
        await ws.close(1000)

    async def lines(self, ws):
        if self.args.agent_first:
            await self.until(ws, lambda frame: frame.get("content"))
        for line in self.args.say:
            before = sum(1 for frame in self.got["frames"] if frame.get("content"))
            await ws.send(json.dumps({"content": line}))
            async with asyncio.timeout(60):
                while sum(1 for frame in self.got["frames"] if frame.get("content")) == before:
                    if "close_code" in self.got:
                        return
                    self.news.clear()
                    await self.news.wait()

    async def goodbye(self, ws):
        """Ends with words, and waits for the close."""
        await self.lines(ws)
        await ws.send(json.dumps({"content": "bye from the caller", "type": "end_call"}))
        await ws.wait_closed()

    async def listen(self, ws):
        """Says its lines and leaves the end to the other side."""
        await self.lines(ws)
        await ws.wait_closed()

    async def burst(self, ws):
        """Says its lines at once, and waits for an answer to the last."""
        for line in self.args.say:
            await ws.send(json.dumps({"content": line}))
        await self.until(ws, self.says(self.args.say[-1]))
        await ws.close(1000)

    async def results(self, ws):
        """Says its line, and gives each function that is called its result."""
        await ws.send(json.dumps({"content": self.args.say[0]}))
        await self.until(ws, lambda frame: frame.get("role") == "Function Call")
        for frame in list(self.got["frames"]):
            if frame.get("role") == "Function Call":
                result = {"id": frame["data"]["id"], "result": {"booked": True}}
                await ws.send(json.dumps({"role": "Function Call Result", "data": result}))
        await self.until(ws, lambda frame: frame.get("content"))
        await ws.close(1000)

    async def skip(self, ws):
        """Says its line, leaves the function that is called without a result and says the next one."""
        await ws.send(json.dumps({"content": self.args.say[0]}))
        await self.until(ws, lambda frame: frame.get("role") == "Function Call")
        await ws.send(json.dumps({"content": self.args.say[1]}))
        await self.until(ws, lambda frame: frame.get("content"))
        await ws.close(1000)

    async def raw(self, ws):
        """Sends its lines as they are, then a proper one that is to be answered."""
        for line in self.args.say:
            await ws.send(line)
        await ws.send(b"\0\1")
        await ws.send(json.dumps({"content": "still there?"}))
        await self.until(ws, self.says("still there?"))
        await ws.close(1000)

    async def huge(self, ws):
        try:
            await ws.send(json.dumps({"content": "x" * 3_000_000}))
        except ConnectionClosed:
            pass
        await ws.wait_closed()

    async def vanish(self, ws):
        await self.lines(ws)
        ws.transport.abort()

    async def stay(self, ws):
        """Says its lines, tells so, and stays until its stdin is closed."""
        await self.lines(ws)
        print(json.dumps({"said": True}), flush=True)
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
        await ws.close(1000)

    async def ping(self, ws):
        begun = time.monotonic()
        await asyncio.wait_for(await ws.ping(), 10)
        self.got["pong_after"] = time.monotonic() - begun
        await ws.close(1000)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("--mode", default="talk")
    parser.add_argument("--say", action="append", default=[])
    parser.add_argument("--agent-first", action="store_true")
    parser.add_argument("--header", action="append", default=[])
    args = parser.parse_args()
    headers = dict(header.split("=", 1) for header in args.header)
    caller = Caller(args)
    try:
        async with connect(args.url, additional_headers=headers, max_size=None, ping_interval=None) as ws:
            reading = asyncio.create_task(caller.read(ws))
            await getattr(caller, args.mode)(ws)
            await asyncio.wait_for(reading, 20)
    except InvalidStatus as refused:
        caller.got["refused"] = refused.response.status_code
        caller.got["reason"] = refused.response.body.decode()
    except (InvalidMessage, OSError) as failed:
        caller.got["failed"] = str(failed)
    print(json.dumps(caller.got), flush=True)


asyncio.run(main())
