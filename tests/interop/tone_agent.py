"""A process agent that sends one tone from beginning to end, or the speech of a WAV file (of its rate) after a second of
silence and before more of it. First it tells in its log what it finds of the call in its environment."""

import itertools
import json
import math
import os
import sys
import threading
import time
import wave

RATE = int(os.environ["TRUNKLINE_RATE"])
FRAME = RATE // 50


def tone(hz):
    amplitude = 32767 * 10 ** (-12 / 20)
    for position in itertools.count(0, FRAME):
        samples = (round(amplitude * math.sin(math.tau * hz * n / RATE)) for n in range(position, position + FRAME))
        yield b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples)


def speech(file):
    yield from itertools.repeat(bytes(FRAME * 2), 50)
    with wave.open(file) as reader:
        assert (reader.getframerate(), reader.getnchannels(), reader.getsampwidth()) == (RATE, 1, 2), file
        while frame := reader.readframes(FRAME):
            yield frame
    yield from itertools.repeat(bytes(FRAME * 2))


def end_with_stdin():
    while os.read(0, 65536):
        pass
    os._exit(0)


names = ("TRUNKLINE_RUN_ID", "TRUNKLINE_SCENARIO_ID", "TRUNKLINE_METADATA")
print(json.dumps({name: os.environ.get(name) for name in names}), file=sys.stderr, flush=True)
threading.Thread(target=end_with_stdin, daemon=True).start()
begun, sent = time.monotonic(), 0
for frame in speech(sys.argv[1]) if sys.argv[1].endswith(".wav") else tone(float(sys.argv[1])):
    os.write(1, frame)
    sent += len(frame) // 2
    time.sleep(max(0, begun + sent / RATE - time.monotonic()))
