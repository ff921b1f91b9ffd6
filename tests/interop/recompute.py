"""Recomputes a call's turns and answer latencies from its stereo.wav and events.jsonl alone, independently of Trunkline's code.

Only for clean recordings: speech is what is louder than -50 dBFS; pauses of less than 700 ms belong to it.
"""

import array
import json
import pathlib
import sys
import wave

LOUD = 104
PAUSE_MS = 700


def stretches(samples, rate):
    found = []
    for at, sample in enumerate(samples):
        if abs(sample) >= LOUD:
            ms = at * 1000 / rate
            if found and ms - found[-1][1] < PAUSE_MS:
                found[-1][1] = ms
            else:
                found.append([ms, ms])
    return found


folder = pathlib.Path(sys.argv[1])
with wave.open(str(folder / "stereo.wav")) as file:
    assert file.getnchannels() == 2 and file.getsampwidth() == 2
    rate = file.getframerate()
    both = array.array("h", file.readframes(file.getnframes()))
caller, agent = stretches(both[0::2], rate), stretches(both[1::2], rate)
caller_rate = json.loads((folder / "call.json").read_text())["caller"]["rate"]
events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
ends = [e["sample"] * 1000 / caller_rate for e in events if e["event"] == "speech_stopped" and e.get("side") == "caller"]
turns = sorted([{"side": "caller", "start_ms": a, "end_ms": b} for a, b in caller] + [{"side": "agent", "start_ms": a, "end_ms": b} for a, b in agent], key=lambda t: t["start_ms"])
latencies = []
for at, end in enumerate(ends):
    until = ends[at + 1] if at + 1 < len(ends) else float("inf")
    answer = next((start for start, _ in agent if end < start < until), None)
    if answer is not None:
        latencies.append(answer - end)
print(json.dumps({"turns": turns, "latencies_ms": latencies}))
