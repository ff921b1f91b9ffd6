"""Records every audio track of every room of a server, mono at 48 kHz, one WAV file a track, on LiveKit's own Python client:
what `trunkline record livekit --all` is measured against. Arguments: the folder, the number of rooms. Tells `tracks N` for each
track it has begun; SIGTERM or the end of stdin ends it.
"""

import asyncio
import os
import pathlib
import sys
import wave

from livekit import api, rtc


async def record(track, file):
    stream = rtc.AudioStream(track, sample_rate=48000, num_channels=1)
    with wave.open(str(file), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(48000)
        async for event in stream:
            out.writeframes(event.frame.data)


async def main(folder, wanted):
    folder = pathlib.Path(folder)
    url = os.environ["LIVEKIT_URL"]
    tasks, joined = set(), []
    server = api.LiveKitAPI()

    def begin(room, track):
        task = asyncio.create_task(record(track, folder / f"{room.name}-{track.sid}.wav"))
        tasks.add(task)
        print("tracks", len(tasks), flush=True)

    while len(joined) < wanted:
        for listed in (await server.room.list_rooms(api.ListRoomsRequest())).rooms:
            if listed.name in [room.name for room in joined]:
                continue
            room = rtc.Room()
            room.on("track_subscribed", lambda track, _publication, _participant, room=room: begin(room, track))
            grants = api.VideoGrants(room_join=True, room=listed.name, hidden=True, recorder=True, can_publish=False)
            token = api.AccessToken().with_identity("recorder").with_grants(grants).to_jwt()
            await room.connect(url, token, rtc.RoomOptions(auto_subscribe=True))
            joined.append(room)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for room in joined:
        await room.disconnect()
    await server.aclose()
    os._exit(0)


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
