"""Records every audio track of every room of a server, one mono WAV file of 48 kHz a track and a stereo one a room, on LiveKit's
own Python client: what `trunkline record livekit --all` is measured against. (It places no frame by its time, loses track of
nothing that it has lost, and writes no events: it is the least that such a recorder does.) Arguments: the folder, the number of
rooms. Tells `tracks N` for each track it has begun; the end of stdin ends it.
"""

import array
import asyncio
import collections
import os
import pathlib
import sys
import wave

from livekit import api, rtc


def wav(file, channels):
    out = wave.open(str(file), "wb")
    out.setnchannels(channels)
    out.setsampwidth(2)
    out.setframerate(48000)
    return out


class Stereo:
    """The first two tracks of a room, side by side."""

    def __init__(self, file):
        self.out, self.waiting = wav(file, 2), []

    def side(self):
        self.waiting.append(collections.deque())
        return self.waiting[-1]

    def write(self):
        while len(self.waiting) > 1 and self.waiting[0] and self.waiting[1]:
            left, right = self.waiting[0].popleft(), self.waiting[1].popleft()
            both = array.array("h", bytes(2 * len(left)))
            both[0::2], both[1::2] = array.array("h", left), array.array("h", right)
            self.out.writeframes(both)


async def record(track, file, stereo):
    side = stereo.side()
    with wav(file, 1) as out:
        async for event in rtc.AudioStream(track, sample_rate=48000, num_channels=1):
            frame = bytes(event.frame.data)
            out.writeframes(frame)
            side.append(frame)
            stereo.write()


async def main(folder, wanted):
    folder = pathlib.Path(folder)
    url = os.environ["LIVEKIT_URL"]
    tasks, joined, stereos = set(), [], {}
    server = api.LiveKitAPI()

    def begin(room, track):
        if room.name not in stereos:
            stereos[room.name] = Stereo(folder / f"{room.name}.wav")
        task = asyncio.create_task(record(track, folder / f"{room.name}-{track.sid}.wav", stereos[room.name]))
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
