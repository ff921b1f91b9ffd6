"""An independent participant of LiveKit rooms, on LiveKit's own Python client, and a client of the server's API.

Commands come as JSON lines on stdin: `{"do": NAME, ...}`. Every one is answered on stdout by `{"done": NAME, ...}` or
`{"failed": NAME, "error": TEXT}`; what happens in the room is told as `{"event": NAME, "at": SECONDS, ...}` (wall clock).
Ends when stdin is closed. The server's address and keys come from LIVEKIT_URL, LIVEKIT_API_KEY and LIVEKIT_API_SECRET.

    join        token | room, identity, [name, kind, attributes, metadata, grants{}, agents[{agent_name, metadata}]];
                [url, record (folder), topics[], byte_topics[], single_peer_connection]
    tone        hz, [dbfs, seconds, silence_first_s]: publishes the microphone if need be; goes on until something else is to be heard
    play        file: a WAV file of 16 bits, mono; answered when it has been sent
    silence, publish, unpublish, mute, unmute
    data        text | base64, [topic, reliable, to[]]
    text        text, topic, [to[], attributes]      a text stream
    stream      parts[], topic, [attributes, closing{}, sender]   a text stream written in parts; with closing attributes, in another's name
    bytes       base64, topic, [to[]]                a byte stream
    dtmf        code, digit
    rpc         to, method, payload, [timeout]       answered with the reply
    serve_rpc   method, reply
    attributes, metadata, name   value
    hear        identity, seconds: answered when so much more has been recorded of this participant
    saved       ends the recordings: answered with {file, identity, track, samples, first_at} for each
    leave
    token       as for join: answered with the token
    create_room room, [metadata, empty_timeout, departure_timeout, max_participants]; rooms; participants room; delete_room room; remove room, identity
    dispatch    room, agent_name, [metadata]; dispatches room
"""

import asyncio
import base64
import datetime
import json
import math
import os
import pathlib
import sys
import time
import wave

from google.protobuf.json_format import MessageToDict
from livekit import api, rtc

RATE = 48000
SAMPLES = RATE // 50


def say(**message):
    print(json.dumps(message), flush=True)


def event(name, /, **more):
    say(event=name, at=time.time(), **more)


def token(command):
    access = api.AccessToken().with_identity(command["identity"]).with_name(command.get("name", ""))
    grants = {"room_join": True, "room": command["room"], "can_update_own_metadata": True, **command.get("grants", {})}
    access = access.with_grants(api.VideoGrants(**grants)).with_metadata(command.get("metadata", ""))
    access = access.with_attributes(command.get("attributes", {})).with_kind(command.get("kind", "standard"))
    access = access.with_ttl(datetime.timedelta(seconds=command.get("ttl_s", 3600)))
    if agents := command.get("agents"):
        access = access.with_room_config(api.RoomConfiguration(agents=[api.RoomAgentDispatch(**agent) for agent in agents]))
    return access.to_jwt()


class Microphone:
    """A track that sends 20 ms frames from its publication on: a tone, a file, or silence."""

    def __init__(self, room):
        self.room = room
        self.source = rtc.AudioSource(RATE, 1, queue_size_ms=100)
        self.track = rtc.LocalAudioTrack.create_audio_track("microphone", self.source)
        self.content = iter(())
        self.ended = asyncio.Event()

    async def publish(self):
        options = rtc.TrackPublishOptions(source=rtc.TrackSource.SOURCE_MICROPHONE, red=False)
        self.publication = await self.room.local_participant.publish_track(self.track, options)
        self.pump = asyncio.create_task(self.send())

    async def send(self):
        silence = bytes(SAMPLES * 2)
        while True:
            frame = next(self.content, None)
            if frame is None:
                self.ended.set()
                frame = silence
            await self.source.capture_frame(rtc.AudioFrame(frame, RATE, 1, SAMPLES))

    def play(self, content):
        self.ended.set()
        self.ended = asyncio.Event()
        self.content = content
        return self.ended

    async def unpublish(self):
        self.pump.cancel()
        await self.room.local_participant.unpublish_track(self.publication.sid)


def tone(hz, dbfs=-12.0, seconds=math.inf, silence_first_s=0.0):
    amplitude = 32767 * 10 ** (dbfs / 20)
    for _ in range(round(silence_first_s * 50)):
        yield bytes(SAMPLES * 2)
    position = 0
    while position < seconds * RATE:
        frame = (round(amplitude * math.sin(math.tau * hz * n / RATE)) for n in range(position, position + SAMPLES))
        yield b"".join(sample.to_bytes(2, "little", signed=True) for sample in frame)
        position += SAMPLES


def speech(file):
    with wave.open(file) as reader:
        assert (reader.getsampwidth(), reader.getnchannels()) == (2, 1), f"{file} is not 16 bits mono"
        rate, samples = reader.getframerate(), reader.readframes(reader.getnframes())
    frame = rtc.AudioFrame(samples, rate, 1, len(samples) // 2)
    if rate != RATE:
        resampler = rtc.AudioResampler(rate, RATE, quality=rtc.AudioResamplerQuality.HIGH)
        samples = b"".join(bytes(part.data) for part in [*resampler.push(frame), *resampler.flush()])
    for at in range(0, len(samples), SAMPLES * 2):
        yield samples[at : at + SAMPLES * 2].ljust(SAMPLES * 2, b"\0")


class Recording:
    """A remote track as this client hears it, at 48 kHz mono."""

    def __init__(self, folder, track, participant):
        self.identity, self.sid = participant.identity, track.sid
        self.file = str(pathlib.Path(folder) / f"{participant.identity}-{track.sid}.wav")
        self.samples, self.first_at = 0, None
        self.stream = rtc.AudioStream(track, sample_rate=RATE, num_channels=1)
        self.task = asyncio.create_task(self.write())

    async def write(self):
        with wave.open(self.file, "wb") as writer:
            writer.setparams((1, 2, RATE, 0, "NONE", ""))
            try:
                async for heard in self.stream:
                    if self.first_at is None:
                        self.first_at = time.time()
                        event("first_audio", participant=self.identity, track=self.sid)
                    writer.writeframes(bytes(heard.frame.data))
                    self.samples += heard.frame.samples_per_channel
            except asyncio.CancelledError:
                pass

    async def save(self):
        self.task.cancel()
        await self.task
        await self.stream.aclose()
        return {"file": self.file, "identity": self.identity, "track": self.sid, "samples": self.samples, "first_at": self.first_at}


class Peer:
    def __init__(self):
        self.room, self.microphone, self.recordings, self.folder, self.waiting = None, None, [], None, set()

    def keep(self, coroutine):
        task = asyncio.create_task(coroutine)
        self.waiting.add(task)
        task.add_done_callback(self.waiting.discard)

    def listen(self, command):
        room = self.room

        def publication(name):
            return lambda published, participant: event(name, participant=participant.identity, track=published.sid, name=published.name)

        def muted(name):
            return lambda participant, published: event(name, participant=participant.identity, track=published.sid)

        def subscribed(track, published, participant):
            event("track_subscribed", participant=participant.identity, track=track.sid, name=published.name, kind=int(track.kind))
            if self.folder and track.kind == rtc.TrackKind.KIND_AUDIO:
                self.recordings.append(Recording(self.folder, track, participant))

        def participant_event(name):
            return lambda participant: event(
                name, participant=participant.identity, sid=participant.sid, name=participant.name, kind=int(participant.kind),
                metadata=participant.metadata, attributes=dict(participant.attributes),
            )

        def data(packet):
            sender = packet.participant.identity if packet.participant else None
            text = packet.data.decode(errors="replace")
            event("data", participant=sender, text=text, base64=base64.b64encode(packet.data).decode(), topic=packet.topic, reliable=int(packet.kind) == 1)

        def text_stream(reader, identity):
            async def read():
                text = "".join([part async for part in reader])
                event("text", participant=identity, topic=reader.info.topic, text=text, attributes=dict(reader.info.attributes or {}))

            self.keep(read())

        def byte_stream(reader, identity):
            async def read():
                content = b"".join([part async for part in reader])
                event("bytes", participant=identity, topic=reader.info.topic, base64=base64.b64encode(content).decode())

            self.keep(read())

        room.on("participant_connected", participant_event("participant_connected"))
        room.on("participant_disconnected", participant_event("participant_disconnected"))
        room.on("track_published", publication("track_published"))
        room.on("track_unpublished", publication("track_unpublished"))
        room.on("track_subscribed", subscribed)
        room.on("track_unsubscribed", lambda track, _, participant: event("track_unsubscribed", participant=participant.identity, track=track.sid))
        room.on("track_muted", muted("track_muted"))
        room.on("track_unmuted", muted("track_unmuted"))
        room.on("active_speakers_changed", lambda speakers: event("active_speakers", speakers=[speaker.identity for speaker in speakers]))
        room.on("participant_attributes_changed", lambda changed, who: event("attributes", participant=who.identity, changed=dict(changed)))
        room.on("participant_metadata_changed", lambda who, _, metadata: event("metadata", participant=who.identity, metadata=metadata))
        room.on("participant_name_changed", lambda who, _, name: event("name", participant=who.identity, name=name))
        room.on("room_metadata_changed", lambda _, metadata: event("room_metadata", metadata=metadata))
        room.on("data_received", data)
        room.on("sip_dtmf_received", lambda dtmf: event(
            "dtmf", participant=dtmf.participant.identity if dtmf.participant else None, code=dtmf.code, digit=dtmf.digit))
        room.on("reconnecting", lambda: event("reconnecting"))
        room.on("reconnected", lambda: event("reconnected"))
        room.on("disconnected", lambda reason: event("disconnected", reason=rtc.DisconnectReason.Name(reason)))
        for topic in command.get("topics", []):
            room.register_text_stream_handler(topic, text_stream)
        for topic in command.get("byte_topics", []):
            room.register_byte_stream_handler(topic, byte_stream)

    async def join(self, command):
        self.room, self.microphone, self.folder = rtc.Room(), None, command.get("record")
        self.listen(command)
        options = rtc.RoomOptions(auto_subscribe=command.get("auto_subscribe", True), single_peer_connection=command.get("single_peer_connection"))
        begun = time.monotonic()
        await self.room.connect(command.get("url") or os.environ["LIVEKIT_URL"], command.get("token") or token(command), options)
        me = self.room.local_participant
        others = [{"identity": who.identity, "kind": int(who.kind), "attributes": dict(who.attributes), "metadata": who.metadata,
                   "tracks": [published.sid for published in who.track_publications.values()]} for who in self.room.remote_participants.values()]
        return {"identity": me.identity, "sid": me.sid, "room": self.room.name, "room_sid": await self.room.sid, "others": others,
                "metadata": self.room.metadata, "seconds": time.monotonic() - begun}

    async def publish(self, _=None):
        if self.microphone is None:
            self.microphone = Microphone(self.room)
            await self.microphone.publish()
        return {"track": self.microphone.publication.sid}

    async def tone(self, command):
        published = await self.publish()
        values = {key: command[key] for key in ("hz", "dbfs", "seconds", "silence_first_s") if key in command}
        self.microphone.play(tone(**values))
        return published

    async def play(self, command):
        published = await self.publish()
        begun = time.time()
        await self.microphone.play(speech(command["file"])).wait()
        return {**published, "begun_at": begun, "ended_at": time.time()}

    async def silence(self, _):
        self.microphone.play(iter(()))
        return {}

    async def unpublish(self, _):
        await self.microphone.unpublish()
        self.microphone = None
        return {}

    async def mute(self, _):
        self.microphone.track.mute()
        return {}

    async def unmute(self, _):
        self.microphone.track.unmute()
        return {}

    async def data(self, command):
        payload = base64.b64decode(command["base64"]) if "base64" in command else command["text"].encode()
        await self.room.local_participant.publish_data(
            payload, reliable=command.get("reliable", True), destination_identities=command.get("to", []), topic=command.get("topic", ""))
        return {}

    async def text(self, command):
        sent = await self.room.local_participant.send_text(
            command["text"], topic=command["topic"], destination_identities=command.get("to"), attributes=command.get("attributes"))
        return {"stream": sent.stream_id}

    async def stream(self, command):
        writer = await self.room.local_participant.stream_text(
            topic=command["topic"], attributes=command.get("attributes"), sender_identity=command.get("sender"))
        for part in command["parts"]:
            await writer.write(part)
        await writer.aclose(attributes=command.get("closing"))
        return {}

    async def bytes(self, command):
        content = base64.b64decode(command["base64"])
        writer = await self.room.local_participant.stream_bytes(
            "bytes", topic=command["topic"], destination_identities=command.get("to"), total_size=len(content))
        await writer.write(content)
        await writer.aclose()
        return {}

    async def dtmf(self, command):
        await self.room.local_participant.publish_dtmf(code=command["code"], digit=command["digit"])
        return {}

    async def rpc(self, command):
        reply = await self.room.local_participant.perform_rpc(
            destination_identity=command["to"], method=command["method"], payload=command["payload"], response_timeout=command.get("timeout"))
        return {"reply": reply}

    async def serve_rpc(self, command):
        async def answer(call):
            event("rpc", participant=call.caller_identity, method=command["method"], payload=call.payload)
            return command["reply"]

        self.room.local_participant.register_rpc_method(command["method"], answer)
        return {}

    async def attributes(self, command):
        await self.room.local_participant.set_attributes(command["value"])
        return {}

    async def metadata(self, command):
        await self.room.local_participant.set_metadata(command["value"])
        return {}

    async def name(self, command):
        await self.room.local_participant.set_name(command["value"])
        return {}

    async def hear(self, command):
        def heard():
            return sum(recording.samples for recording in self.recordings if recording.identity == command["identity"])

        wanted = heard() + command["seconds"] * RATE
        while heard() < wanted:
            await asyncio.sleep(0.02)
        return {"samples": heard()}

    async def saved(self, _):
        saved = [await recording.save() for recording in self.recordings]
        self.recordings = []
        return {"recordings": saved}

    async def leave(self, _=None):
        saved = await self.saved(None)
        if self.microphone:
            self.microphone.pump.cancel()
        await self.room.disconnect()
        return saved

    async def token(self, command):
        return {"token": token(command)}

    async def create_room(self, command):
        async with api.LiveKitAPI() as server:
            keys = ("metadata", "empty_timeout", "departure_timeout", "max_participants")
            request = api.CreateRoomRequest(name=command["room"], **{key: command[key] for key in keys if key in command})
            return {"room": MessageToDict(await server.room.create_room(request))}

    async def rooms(self, _):
        async with api.LiveKitAPI() as server:
            return {"rooms": [MessageToDict(room) for room in (await server.room.list_rooms(api.ListRoomsRequest())).rooms]}

    async def participants(self, command):
        async with api.LiveKitAPI() as server:
            found = await server.room.list_participants(api.ListParticipantsRequest(room=command["room"]))
            return {"participants": [MessageToDict(participant) for participant in found.participants]}

    async def delete_room(self, command):
        async with api.LiveKitAPI() as server:
            await server.room.delete_room(api.DeleteRoomRequest(room=command["room"]))
            return {}

    async def remove(self, command):
        async with api.LiveKitAPI() as server:
            await server.room.remove_participant(api.RoomParticipantIdentity(room=command["room"], identity=command["identity"]))
            return {}

    async def dispatch(self, command):
        async with api.LiveKitAPI() as server:
            request = api.CreateAgentDispatchRequest(
                room=command["room"], agent_name=command["agent_name"], metadata=command.get("metadata", ""))
            return {"dispatch": MessageToDict(await server.agent_dispatch.create_dispatch(request))}

    async def dispatches(self, command):
        async with api.LiveKitAPI() as server:
            return {"dispatches": [MessageToDict(dispatch) for dispatch in await server.agent_dispatch.list_dispatch(command["room"])]}


COMMANDS = {
    "join", "tone", "play", "silence", "publish", "unpublish", "mute", "unmute", "data", "text", "stream", "bytes", "dtmf", "rpc", "serve_rpc", "attributes",
    "metadata", "name", "hear", "saved", "leave", "token", "create_room", "rooms", "participants", "delete_room", "remove", "dispatch", "dispatches",
}


async def main():
    peer = Peer()

    async def carry_out(command):
        name = command["do"]
        try:
            if name not in COMMANDS:
                raise ValueError("there is no such command")
            say(done=name, at=time.time(), **await getattr(peer, name)(command))
        except Exception as error:
            say(failed=name, at=time.time(), error=f"{type(error).__name__}: {error}")

    reader = asyncio.StreamReader(limit=2**24)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    say(ready=True)
    while line := await reader.readline():
        command = json.loads(line)
        # Others may be given while a file is played or a call awaited.
        if command["do"] in ("play", "rpc", "hear"):
            peer.keep(carry_out(command))
        else:
            await carry_out(command)
    if peer.room and peer.room.isconnected():
        await peer.leave()


asyncio.run(main())
