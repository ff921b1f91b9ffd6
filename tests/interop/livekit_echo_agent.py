"""A stock livekit-agents worker whose agent sends back what it hears of the first other participant, 48 kHz mono, with nothing between.

Run it as it is, or with `python -m livekit.agents start`. Its name comes from LIVEKIT_AGENT_NAME_OVERRIDE. Tells `registered`, `job` (with the
job's metadata), `echoing`, `left`.
"""

import asyncio

import livekit_worker
from livekit import rtc
from livekit.agents import JobContext

RATE = 48000

server = livekit_worker.server()


@server.rtc_session(agent_name="echo")
async def entrypoint(ctx: JobContext):
    livekit_worker.tell_job(ctx)
    heard = asyncio.get_running_loop().create_future()

    def subscribed(track, _, participant):
        if track.kind == rtc.TrackKind.KIND_AUDIO and not heard.done():
            heard.set_result((track, participant))

    left = asyncio.Event()
    ctx.room.on("track_subscribed", subscribed)
    ctx.room.on("participant_disconnected", lambda who: heard.done() and who.identity == heard.result()[1].identity and left.set())
    await ctx.connect()
    source = rtc.AudioSource(RATE, 1, queue_size_ms=200)
    microphone = rtc.LocalAudioTrack.create_audio_track("echo", source)
    await ctx.room.local_participant.publish_track(microphone, rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE))
    track, participant = await heard

    async def echo():
        livekit_worker.tell("echoing", participant=participant.identity)
        async for event in rtc.AudioStream(track, sample_rate=RATE, num_channels=1):
            await source.capture_frame(event.frame)

    echoing = asyncio.create_task(echo())
    await left.wait()
    echoing.cancel()
    livekit_worker.tell("left", participant=participant.identity)
    ctx.shutdown()


if __name__ == "__main__":
    livekit_worker.run(__file__)
