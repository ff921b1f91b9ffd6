"""What the LiveKit agents share: a worker that tells in JSON lines on stdout what happens and ends with whoever started it."""

import json
import os
import signal
import sys
import threading
import time

from livekit.agents import AgentServer, JobContext
from livekit.agents.__main__ import main


def tell(event, /, **more):
    # One write each: the jobs' processes share the worker's stdout.
    os.write(1, (json.dumps({"event": event, "at": time.time(), "pid": os.getpid(), **more}) + "\n").encode())


def server():
    """A worker as livekit-agents makes it, on loopback. It tells no load: the server sends no job to a worker on a busy machine."""
    worker = AgentServer(host="127.0.0.1", load_fnc=lambda _worker: 0.0)
    worker.on("worker_registered", lambda worker_id, _: tell("registered", worker=worker_id))
    return worker


def tell_job(ctx: JobContext):
    job = ctx.job
    attributes = dict(job.participant.attributes) if job.HasField("participant") else {}
    tell("job", id=job.id, dispatch=job.dispatch_id, room=job.room.name, agent_name=job.agent_name, metadata=job.metadata, attributes=attributes)


def run(script):
    """Starts the worker of a script. It ends, with its jobs, when its stdin is closed."""
    if os.getpgrp() != os.getpid():
        os.setpgid(0, 0)

    def watch():
        while os.read(0, 4096):
            pass
        os.killpg(0, signal.SIGKILL)

    threading.Thread(target=watch, daemon=True).start()
    sys.exit(main(["start", script, "--dev", "--log-level", "WARNING"]))
