"""An independent chat agent (a WebSocket server), written from the protocol and not from Trunkline's code.

Prints its port, then for each connection a JSON summary: the handshake's headers and path, and the frames that came.
"""

import argparse
import asyncio
import json
import socket

from websockets.asyncio.server import serve
from websockets.exceptions import ConnectionClosed


def content(text, **more):
    return json.dumps({"content": text, **more})


async def echo(ws, frames):
    async for frame in frames:
        await ws.send(content("you said: " + frame))


async def greet(ws, frames):
    await ws.send(content("Hello, how can I help?"))
    await echo(ws, frames)


async def tools(ws, frames):
    """Calls functions, with arguments as a text and as an object; tells metadata beside content and alone."""
    async for frame in frames:
        call = {"id": "call-1", "name": "look_up", "arguments": '{"day": "Monday"}'}
        await ws.send(json.dumps({"role": "Function Call", "data": call}))
        await ws.send(json.dumps({"role": "Function Call Result", "data": {"id": "call-1", "result": {"free": ["9:00"]}}}))
        call = {"id": "call-2", "name": "book", "arguments": {"at": "9:00", "party": 2}}
        await ws.send(json.dumps({"role": "Function Call", "data": call}))
        await ws.send(json.dumps({"role": "Function Call Result", "data": {"id": "call-2", "result": "booked"}}))
        await ws.send(json.dumps({"metadata": {"stage": "booking"}}))
        await ws.send(content("Booked for nine: " + frame, metadata={"stage": "done", "nested": {"a": [1]}}))
        await ws.send(content(""))


async def hang_up(ws, frames):
    async for frame in frames:
        await ws.send(content("Goodbye: " + frame, type="end_call"))
        await ws.wait_closed()
        return


async def close(ws, frames):
    async for _ in frames:
        return


async def crash(ws, frames):
    async for _ in frames:
        await ws.close(1011, "out of memory")
        return


async def deaf(ws, frames):
    """Answers once, and reads nothing any more: no ping is answered."""
    async for frame in frames:
        await ws.send(content("you said: " + frame))
        ws.transport.pause_reading()
        await asyncio.sleep(90)


async def vanish(ws, frames):
    async for _ in frames:
        ws.transport.abort()
        return


async def odd(ws, frames):
    """Frames that mean nothing, and those of older dialects, before its answer."""
    async for frame in frames:
        await ws.send("not json {")
        await ws.send("[1]")
        await ws.send(json.dumps({"type": "response", "response": "old"}))
        await ws.send(json.dumps({"type": "end_of_conversation"}))
        await ws.send(json.dumps({"something": "else"}))
        await ws.send(json.dumps({"content": 7}))
        await ws.send(json.dumps({"role": "Function Call", "data": {"name": "no id"}}))
        await ws.send(b"\0\0")
        await ws.send(json.dumps({"role": "agent", "content": "you said: " + frame}))


async def answer(ws, args):
    summary = {"path": ws.request.path, "headers": dict(ws.request.headers.raw_items()), "frames": []}

    async def frames():
        async for message in ws:
            frame = json.loads(message)
            summary["frames"].append(frame)
            if frame.get("type") == "end_call":
                continue
            if frame.get("content"):
                yield frame["content"]

    try:
        await globals()[args.mode](ws, frames())
    except ConnectionClosed:
        pass
    if args.mode != "vanish":
        await ws.close()
    summary["close_code"] = ws.close_code
    print(json.dumps(summary), flush=True)


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--mode", default="echo")
    parser.add_argument("--secret")
    parser.add_argument("--delay", type=float, default=0)
    args = parser.parse_args()

    async def check(connection, request):
        await asyncio.sleep(args.delay)
        if args.secret and request.headers.get("X-VOCERA-SECRET") != args.secret:
            return connection.respond(401, "wrong secret\n")

    sock = socket.create_server(("127.0.0.1", 0))
    async with serve(lambda ws: answer(ws, args), sock=sock, process_request=check, ping_interval=None):
        print(json.dumps({"port": sock.getsockname()[1]}), flush=True)
        await asyncio.get_running_loop().create_future()


asyncio.run(main())
