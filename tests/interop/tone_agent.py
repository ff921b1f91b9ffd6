"""A process agent that sends one tone from beginning to end, and first tells in its log what it finds of the call in its environment."""

import json
import math
import os
import sys
import threading
import time

RATE = int(os.environ["TRUNKLINE_RATE"])
FRAME = RATE // 50
HZ = float(sys.argv[1])

names = ("TRUNKLINE_RUN_ID", "TRUNKLINE_SCENARIO_ID", "TRUNKLINE_METADATA")
print(json.dumps({name: os.environ.get(name) for name in names}), file=sys.stderr, flush=True)


def end_with_stdin():
    while os.read(0, 65536):
        pass
    os._exit(0)


threading.Thread(target=end_with_stdin, daemon=True).start()
amplitude = 32767 * 10 ** (-12 / 20)
begun, position = time.monotonic(), 0
while True:
    samples = (round(amplitude * math.sin(math.tau * HZ * n / RATE)) for n in range(position, position + FRAME))
    os.write(1, b"".join(sample.to_bytes(2, "little", signed=True) for sample in samples))
    position += FRAME
    time.sleep(max(0, begun + position / RATE - time.monotonic()))
