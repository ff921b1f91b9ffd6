"""Recomputes the percentiles of a load from the folders of its calls, independently of Trunkline's code: set-up times from
call.json, answer latencies from the audio (by recompute.py). Percentiles are nearest ranks. Calls that are void do not count."""

import json
import math
import pathlib
import subprocess
import sys


def spread(times):
    times = sorted(times)
    ranks = {name: math.ceil(percent / 100 * len(times)) for name, percent in (("p50", 50), ("p90", 90), ("p95", 95), ("p99", 99), ("max", 100))}
    return {"n": len(times), **{name: times[rank - 1] for name, rank in ranks.items()}}


out = pathlib.Path(sys.argv[1])
void = {run["call_id"] for run in json.loads((out / "report.json").read_text())["runs"] if run["verdict"] == "void"}
stages, set_ups, latencies = {}, [], []
for folder in sorted(path for path in out.iterdir() if path.is_dir() and path.name not in void):
    passed = json.loads((folder / "call.json").read_text())["set_up"]["stages"]
    for stage in passed:
        stages.setdefault(stage["stage"], []).append(stage["took_ms"])
    set_ups.append(sum(stage["took_ms"] for stage in passed if stage["stage"] != "first_audio"))
    recompute = pathlib.Path(__file__).with_name("recompute.py")
    latencies += json.loads(subprocess.run([sys.executable, recompute, folder], check=True, capture_output=True).stdout)["latencies_ms"]
print(json.dumps({"set_up": spread(set_ups), "stages": {name: spread(times) for name, times in stages.items()}, "response_latency": spread(latencies)}))
