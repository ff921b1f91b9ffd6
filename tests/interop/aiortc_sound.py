"""Sound for aiortc's peers: a tone that is sent, and what is heard. Their ICE offers 127.0.0.1 and nothing else."""

import asyncio
import fractions
import math

import aioice.ice
import numpy
from aiortc.mediastreams import MediaStreamError, MediaStreamTrack
from av import AudioFrame

aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]
RATE, FRAME = 48000, 960


class Tone(MediaStreamTrack):
    kind = "audio"

    def __init__(self, hz):
        super().__init__()
        self.hz, self.at, self.begun = hz, 0, None

    async def recv(self):
        loop = asyncio.get_running_loop()
        self.begun = self.begun or loop.time()
        await asyncio.sleep(self.begun + self.at / RATE - loop.time())
        samples = 8000 * numpy.sin(math.tau * self.hz * numpy.arange(self.at, self.at + FRAME) / RATE)
        frame = AudioFrame.from_ndarray(samples.astype("int16").reshape(1, -1), format="s16", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = RATE, self.at, fractions.Fraction(1, RATE)
        self.at += FRAME
        return frame


class Ears:
    """What came, of whatever track."""

    def __init__(self):
        self.pieces = []

    async def listen(self, track):
        while True:
            try:
                frame = await track.recv()
            except MediaStreamError:
                return
            self.pieces.append(frame.to_ndarray().reshape(-1, len(frame.layout.channels))[:, 0].copy())

    def heard(self):
        """The seconds of it, and the strongest frequency of each whole second that is not silent."""
        samples = numpy.concatenate(self.pieces) if self.pieces else numpy.zeros(0)
        seconds = numpy.split(samples[: len(samples) // RATE * RATE].astype(float), max(len(samples) // RATE, 1))
        loud = [second for second in seconds if numpy.abs(second).max(initial=0) > 1000]
        return {"seconds": len(samples) / RATE, "hz": [float(numpy.abs(numpy.fft.rfft(second)).argmax()) for second in loud]}
