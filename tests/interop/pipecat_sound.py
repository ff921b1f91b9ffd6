"""A processor for bots that only hear and sound, and what several bots tell of what they heard.

In the mode `echo` it sends back what it hears; in the mode `tone` it waits until the caller has spoken and been silent for half a second, answers
with two seconds of a tone, and hangs up.
"""

import math

import numpy
from pipecat.frames.frames import (
    EndWorkerFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTransportMessageFrame,
    OutputAudioRawFrame,
    TTSAudioRawFrame,
    TTSStartedFrame,
    TTSStoppedFrame,
)
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor


class SoundBot(FrameProcessor):
    def __init__(self, mode, hz, rate):
        super().__init__()
        self.mode, self.hz, self.rate = mode, hz, rate
        self.heard, self.rates, self.messages, self.digits = bytearray(), set(), [], ""
        self.quiet = None  # seconds since the caller's last sound

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.heard += frame.audio
            self.rates.add(frame.sample_rate)
            if self.mode == "echo":
                await self.push_frame(OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels))
            else:
                samples = numpy.frombuffer(frame.audio, dtype="<i2")
                await self.listen(numpy.abs(samples.astype(int)).max(initial=0) > 1000, len(samples) / frame.sample_rate)
            return
        if isinstance(frame, InputTransportMessageFrame):
            self.messages.append(frame.message.get("type"))
        elif isinstance(frame, InputDTMFFrame):
            self.digits += frame.button.value
        await self.push_frame(frame, direction)

    async def listen(self, loud, seconds):
        if loud:
            self.quiet = 0.0
        elif self.quiet is not None:
            before, self.quiet = self.quiet, self.quiet + seconds
            if before < 0.5 <= self.quiet:
                await self.say_a_tone()
                await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)

    async def say_a_tone(self):
        samples = 8000 * numpy.sin(math.tau * self.hz * numpy.arange(2 * self.rate) / self.rate)
        await self.push_frame(TTSStartedFrame())
        await self.push_frame(TTSAudioRawFrame(samples.astype("<i2").tobytes(), self.rate, 1))
        await self.push_frame(TTSStoppedFrame())


def seconds_and_tones(audio, rate):
    """How long it is, and the strongest frequency of each whole second that is not silent."""
    samples = numpy.frombuffer(bytes(audio), dtype="<i2").astype(float)
    pieces = numpy.split(samples[: len(samples) // rate * rate], max(len(samples) // rate, 1))
    loud = [piece for piece in pieces if numpy.abs(piece).max(initial=0) > 1000]
    return {"seconds": len(samples) / rate, "hz": [float(numpy.abs(numpy.fft.rfft(piece)).argmax()) for piece in loud]}
