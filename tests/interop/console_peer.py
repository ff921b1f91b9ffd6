"""An agent at the other end of LiveKit's TCP console, written from the protocol and without any library: well behaved, or not at all.

    console_peer.py MODE --connect-addr HOST:PORT

Frames are a u32 big-endian length and a protobuf `livekit.agent.AgentSessionMessage`. What it got goes to stderr as JSON.
"""

import json
import math
import socket
import struct
import sys
import threading
import time

RATE = 48000
LISTENING, SPEAKING = 2, 4


def varint(number):
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes(out + bytes([number]))


def number(tag, value):
    return varint(tag << 3) + varint(value)


def nested(tag, payload):
    return varint(tag << 3 | 2) + varint(len(payload)) + payload


def fields(data):
    """The fields of a message: (tag, value)."""
    at = 0

    def read():
        nonlocal at
        value = shift = 0
        while True:
            byte = data[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(data):
        key = read()
        if key & 7 == 0:
            yield key >> 3, read()
        else:
            assert key & 7 == 2, f"wire type {key & 7}"
            length = read()
            yield key >> 3, data[at : at + length]
            at += length


def audio(samples, rate=RATE, channels=1, tag=2):
    data = struct.pack(f"<{len(samples)}h", *samples)
    return nested(tag, nested(1, data) + number(2, rate) + number(3, channels) + number(4, len(samples)))


def tone(seconds, hz):
    return [int(8000 * math.sin(2 * math.pi * hz * n / RATE)) for n in range(int(seconds * RATE))]


def state(old, new):
    return nested(3, nested(10, number(1, old) + number(2, new)))


FLUSH, CLEAR = nested(6, b""), nested(7, b"")


def say(**what):
    print(json.dumps(what), file=sys.stderr, flush=True)


class Console:
    def __init__(self, address):
        host, port = address.rsplit(":", 1)
        self.address = (host, int(port))
        self.socket = socket.create_connection(self.address)
        self.frames = self.samples = 0
        self.sizes, self.wrong = set(), []
        self.requests = []
        self.finished = []
        self.loudest = 0
        self.changed = threading.Condition()

    def listen(self):
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        stream = self.socket.makefile("rb")
        while len(header := stream.read(4)) == 4:
            message = stream.read(struct.unpack(">I", header)[0])
            with self.changed:
                for tag, value in fields(message):
                    self.take(tag, value)
                self.changed.notify_all()

    def take(self, tag, value):
        if tag == 1:
            frame = dict(fields(value))
            samples = struct.unpack(f"<{len(frame[1]) // 2}h", frame[1])
            self.frames, self.samples = self.frames + 1, self.samples + len(samples)
            self.sizes.add(len(samples))
            self.loudest = max(self.loudest, *map(abs, samples))
            if (frame[2], frame[3], frame[4]) != (RATE, 1, len(samples)):
                self.wrong.append((frame[2], frame[3], frame[4]))
        elif tag == 4:
            self.requests.append(sorted(tag for tag, _ in fields(value) if tag > 1))
        elif tag == 8:
            self.finished.append(time.monotonic())
        else:
            self.wrong.append(tag)

    def until(self, condition, seconds=60):
        with self.changed:
            assert self.changed.wait_for(condition, seconds), "waited in vain"

    def raw(self, data):
        self.socket.sendall(data)

    def send(self, *messages):
        self.raw(b"".join(struct.pack(">I", len(message)) + message for message in messages))

    def begin(self):
        self.listen()
        self.send(state(0, LISTENING))

    def burst(self, seconds, hz):
        """An utterance, faster than it can be heard."""
        samples = tone(seconds, hz)
        self.send(state(LISTENING, SPEAKING))
        self.send(*(audio(samples[at : at + 480]) for at in range(0, len(samples), 480)))
        return time.monotonic()

    def heard_audio(self):
        return self.frames > 50


def burst(console):
    """Two utterances, each heard to its end; then hangs up."""
    console.begin()
    console.until(console.heard_audio)
    took = []
    for nth, hz in enumerate((440, 880), 1):
        sent = console.burst(1.0, hz)
        console.send(FLUSH)
        console.until(lambda nth=nth: len(console.finished) == nth)
        took.append(round(console.finished[-1] - sent, 3))
        console.send(state(SPEAKING, LISTENING))
    say(took=took, frames=console.frames, sizes=sorted(console.sizes), wrong=console.wrong, loudest=console.loudest, requests=console.requests)


def stopped(console):
    """Stops within an utterance, goes on with it; stops another one by its state and clears it later; clears a third at once."""
    console.begin()
    console.until(console.heard_audio)
    sent = console.burst(2.0, 440)
    console.send(FLUSH)
    frames = console.frames
    console.until(lambda: console.frames > frames + 25)
    console.send(state(SPEAKING, LISTENING))
    frames = console.frames
    console.until(lambda: console.frames > frames + 50)
    assert not console.finished, "what was stopped is not heard"
    # Nobody had interrupted it.
    console.send(nested(3, nested(23, number(1, 1))), state(LISTENING, SPEAKING))
    console.until(lambda: len(console.finished) == 1)
    went_on = console.finished[-1] - sent
    console.send(state(SPEAKING, LISTENING))
    for hz, ends in ((880, [state(SPEAKING, LISTENING)]), (1320, [CLEAR, state(SPEAKING, LISTENING)])):
        console.send(state(LISTENING, SPEAKING))
        console.burst(5.0, hz)
        console.send(FLUSH)
        frames = console.frames
        console.until(lambda frames=frames: console.frames > frames + 50)
        console.send(*ends)
        frames = console.frames
        console.until(lambda frames=frames: console.frames > frames + 25)
        console.send(CLEAR)
    say(went_on=round(went_on, 3), finished=len(console.finished))


def tools(console):
    """Tells of a function tool that failed and one that worked, of words and of what it measured, and of an error."""
    console.begin()
    console.until(console.heard_audio)
    call = nested(2, b"id-1") + nested(3, b'{"day": "Friday"}') + nested(4, b"book")
    other = nested(2, b"id-2") + nested(3, b"not JSON") + nested(4, b"odd")
    outputs = nested(2, nested(2, b"book") + nested(3, b"id-1") + nested(4, b'{"slot": 3}'))
    outputs += nested(2, nested(2, b"odd") + nested(3, b"id-2") + nested(4, b"no such day") + number(5, 1))
    metrics = nested(7, varint(8 << 3 | 1) + struct.pack("<d", 0.75))
    message = nested(1, b"m-1") + number(2, 3) + nested(3, nested(1, "Grüß Gott.".encode())) + number(4, 1) + metrics
    console.send(
        nested(3, nested(22, nested(1, nested(1, call)))),
        nested(3, nested(14, nested(1, call) + nested(1, other) + outputs)),
        nested(3, nested(12, nested(1, nested(1, message)))),
        nested(3, nested(13, nested(1, b"half a sen"))),
        nested(3, nested(13, nested(1, b"A whole sentence.") + number(2, 1))),
        nested(3, nested(15, nested(1, b"the model is out of reach"))),
        nested(5, nested(1, b"framework") + nested(11, nested(1, b"peer") + nested(2, b"0.1"))),
    )


def wrong_messages(console):
    """Messages that are the console's, none at all, audio of another kind, and a kind of message that nobody knows."""
    console.begin()
    console.until(console.heard_audio)
    two_channels = audio([0] * 960, channels=2)
    console.send(audio([0] * 480, tag=1), nested(8, b""), nested(4, b""), b"", audio([0] * 480, rate=24000), two_channels, nested(99, b"?"))
    console.burst(0.5, 440)
    console.send(FLUSH)
    console.until(lambda: len(console.finished) == 1)
    # Whoever does it for ever is sent away.
    for _ in range(100):
        console.send(b"")
    console.until(lambda: False, 10)


def garbage_length(console):
    console.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    time.sleep(60)


def oversized(console):
    console.begin()
    console.until(console.heard_audio)
    console.raw(struct.pack(">I", (1 << 20) + 1))
    time.sleep(60)


def garbage_message(console):
    console.begin()
    console.until(console.heard_audio)
    console.raw(struct.pack(">I", 6) + b"\xff" * 6)
    time.sleep(60)


def truncated(console):
    console.begin()
    console.until(console.heard_audio)
    console.raw(struct.pack(">I", 1000) + b"\x12" * 10)


def silent(console):
    time.sleep(60)


def twice(console):
    """The second connection gets nobody; the first goes on."""
    console.begin()
    console.until(console.heard_audio)
    try:
        second = socket.create_connection(console.address, 10)
        second.sendall(struct.pack(">I", 6) + b"\xff" * 6)
        say(second="closed" if second.recv(100) == b"" else "spoken to")
    except OSError as error:
        say(second=type(error).__name__)
    console.burst(0.5, 440)
    console.send(FLUSH)
    console.until(lambda: len(console.finished) == 1)


def hangs_up_at_once(console):
    pass


def never_ends(console):
    """Stays, whatever SIGTERM says."""
    import signal

    signal.signal(signal.SIGTERM, lambda *_: say(told="SIGTERM"))
    console.begin()
    while True:
        time.sleep(1)


def main():
    mode, flag, address = sys.argv[1:4]
    assert flag == "--connect-addr", flag
    if mode == "never":
        say(waits=address)
        time.sleep(60)
    elif mode == "crash":
        print("loading the agent", flush=True)
        raise SystemExit("no module named agent")
    else:
        globals()[mode](Console(address))


if __name__ == "__main__":
    main()
