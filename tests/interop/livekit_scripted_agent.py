"""A real AgentSession with local parts only: LiveKit's own voice detector, a transcriber and a language model that know their lines by
heart, and speech from WAV files. Greets, answers each turn of the caller, can be interrupted, and has one function tool.

Run it as it is, with `python -m livekit.agents start`, or with `python -m livekit.agents console FILE --connect-addr HOST:PORT`. Its name comes
from LIVEKIT_AGENT_NAME_OVERRIDE. AGENT_SCRIPT names a JSON file, else it speaks the shipped speech:

    {"greeting": {"text", "file"}, "answers": [{"text", "file", ["call": {"member": "1234"}]}], "heard": ["what the transcriber takes the caller to say"]}

The last answer is given to every turn after it. `call` makes the model call the tool before it answers. Every text is spoken by one file, and
texts differ. Tells `registered`, `job`, `agent_state`, `user_state`, `heard`, `said` (with `interrupted`), `tool`, `track` (somebody's), `closed`.

With `"text_mode": true` in the job's metadata it writes: no speech in or out, each answer streamed word by word. There an answer may have
`"ends": "leaves"` (it leaves once it has answered) or `"ends": "deletes"` (the room is deleted), and a text that is empty is no answer; without
a greeting it waits for the caller's first message. It tells `read` for each of those. With `"hasty": true` in the script it greets as soon
as it is in the room, to whomever.
"""

import asyncio
import json
import os
import pathlib
import re
import wave

import livekit_worker
from livekit import rtc
from livekit.agents import Agent, AgentSession, JobContext, function_tool, get_job_context, inference, llm, room_io, stt, tts
from livekit.agents.types import DEFAULT_API_CONNECT_OPTIONS

RATE = 24000
SPEECH = pathlib.Path(__file__).resolve().parents[2] / "fixtures/speech"


def script():
    if file := os.environ.get("AGENT_SCRIPT"):
        return json.loads(pathlib.Path(file).read_text())
    texts = {entry["file"]: entry["text"] for entry in json.loads((SPEECH / "index.json").read_text())}
    spoken = [{"text": texts[name], "file": str(SPEECH / name)} for name in ("agent-greeting.wav", *(f"agent-answer-{n}.wav" for n in (1, 2, 3)))]
    return {"greeting": spoken[0], "answers": spoken[1:]}


SCRIPT = script()


class Transcriber(stt.STT):
    """Takes the caller's nth utterance for the nth of its lines."""

    def __init__(self):
        super().__init__(capabilities=stt.STTCapabilities(streaming=False, interim_results=False))
        self.turns = 0

    async def _recognize_impl(self, buffer, *, language=None, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        self.turns += 1
        lines = SCRIPT.get("heard", [])
        text = lines[self.turns - 1] if self.turns <= len(lines) else f"This is what the caller says in turn {self.turns}."
        return stt.SpeechEvent(type=stt.SpeechEventType.FINAL_TRANSCRIPT, alternatives=[stt.SpeechData(language="en", text=text)])


class Model(llm.LLM):
    """Answers the nth turn with the nth of its lines."""

    def __init__(self, writes=False):
        super().__init__()
        self.writes = writes

    def chat(self, *, chat_ctx, tools=None, conn_options=DEFAULT_API_CONNECT_OPTIONS, **_):
        return Answer(self, chat_ctx=chat_ctx, tools=tools or [], conn_options=conn_options)


class Answer(llm.LLMStream):
    async def _run(self):
        turn = sum(item.type == "message" and item.role == "user" for item in self._chat_ctx.items)
        answer = SCRIPT["answers"][min(max(turn, 1), len(SCRIPT["answers"])) - 1]
        call = answer.get("call")
        if call and self._chat_ctx.items[-1].type != "function_call_output":
            called = llm.FunctionToolCall(name="look_up_member", arguments=json.dumps(call), call_id=f"call-{turn}")
            delta = llm.ChoiceDelta(role="assistant", tool_calls=[called])
        else:
            # Only what is written is streamed in words: speech is looked up by its whole text.
            for piece in re.findall(r"\S+\s*", answer["text"]) if self._llm.writes else [answer["text"]]:
                delta = llm.ChoiceDelta(role="assistant", content=piece)
                self._event_ch.send_nowait(llm.ChatChunk(id=f"answer-{turn}", delta=delta))
                await asyncio.sleep(0)
            return
        self._event_ch.send_nowait(llm.ChatChunk(id=f"answer-{turn}", delta=delta))


class Speech(tts.TTS):
    """Speaks each text as its file has it."""

    def __init__(self):
        super().__init__(capabilities=tts.TTSCapabilities(streaming=True), sample_rate=RATE, num_channels=1)
        self.files = {line["text"]: line["file"] for line in [SCRIPT["greeting"], *SCRIPT["answers"]]}

    def synthesize(self, text, *, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        return self._synthesize_with_stream(text, conn_options=conn_options)

    def stream(self, *, conn_options=DEFAULT_API_CONNECT_OPTIONS):
        return Utterance(tts=self, conn_options=conn_options)


class Utterance(tts.SynthesizeStream):
    async def _run(self, output_emitter):
        text = "".join([part async for part in self._input_ch if isinstance(part, str)]).strip()
        output_emitter.initialize(request_id="speech", sample_rate=RATE, num_channels=1, mime_type="audio/pcm", frame_size_ms=20, stream=True)
        output_emitter.start_segment(segment_id="speech")
        self._mark_started()
        output_emitter.push(samples(self._tts.files[text]))
        output_emitter.end_segment()


def samples(file):
    with wave.open(file) as reader:
        rate, data = reader.getframerate(), reader.readframes(reader.getnframes())
    if rate == RATE:
        return data
    resampler = rtc.AudioResampler(rate, RATE, quality=rtc.AudioResamplerQuality.HIGH)
    parts = [*resampler.push(rtc.AudioFrame(data, rate, 1, len(data) // 2)), *resampler.flush()]
    return b"".join(bytes(part.data) for part in parts)


class Scripted(Agent):
    def __init__(self):
        super().__init__(instructions="Answer by the script.")

    async def on_enter(self):
        if greeting := SCRIPT.get("greeting"):
            self.session.say(greeting["text"])

    @function_tool
    async def look_up_member(self, member: str) -> str:
        """Looks a member up by number."""
        livekit_worker.tell("tool", name="look_up_member", arguments={"member": member})
        return f"Member {member} is known."


server = livekit_worker.server()


@server.rtc_session(agent_name="scripted")
async def entrypoint(ctx: JobContext):
    livekit_worker.tell_job(ctx)
    ctx.room.on("track_published", lambda track, who: livekit_worker.tell("track", participant=who.identity, name=track.name))
    if is_to_write(ctx.job.metadata):
        return await write(ctx)
    session = AgentSession(
        vad=inference.VAD(),
        stt=Transcriber(),
        llm=Model(),
        tts=Speech(),
        turn_handling={
            "turn_detection": "vad",
            "endpointing": {"min_delay": 0.3},
            "interruption": {"mode": "vad", "min_duration": 0.3, "resume_false_interruption": False},
        },
        # Callers speak into the first words too.
        aec_warmup_duration=None,
    )
    session.on("agent_state_changed", lambda event: livekit_worker.tell("agent_state", old=event.old_state, new=event.new_state))
    session.on("user_state_changed", lambda event: livekit_worker.tell("user_state", old=event.old_state, new=event.new_state))
    session.on("user_input_transcribed", lambda event: livekit_worker.tell("heard", text=event.transcript, final=event.is_final))
    session.on("close", lambda event: livekit_worker.tell("closed", reason=event.reason.value))

    def said(event):
        if event.item.type == "message" and event.item.role == "assistant":
            livekit_worker.tell("said", text=event.item.text_content, interrupted=event.item.interrupted)

    session.on("conversation_item_added", said)
    await session.start(Scripted(), room=ctx.room)


def is_to_write(metadata):
    try:
        return json.loads(metadata).get("text_mode") is True
    except (ValueError, AttributeError):
        return False


async def write(ctx: JobContext):
    # In text nothing waits for the caller: a greeting before it has come would be lost.
    await ctx.connect()
    if not SCRIPT.get("hasty"):
        await ctx.wait_for_participant()
    session = AgentSession(llm=Model(writes=True))
    session.on("close", lambda event: livekit_worker.tell("closed", reason=event.reason.value))

    def added(event):
        if event.item.type == "message":
            livekit_worker.tell("said" if event.item.role == "assistant" else "read", text=event.item.text_content)

    async def end(how):
        if how == "deletes":
            await get_job_context().delete_room()
        else:
            ctx.shutdown()

    def state(event):
        turn = sum(item.type == "message" and item.role == "user" for item in session.history.items)
        how = SCRIPT["answers"][min(turn, len(SCRIPT["answers"])) - 1].get("ends") if turn else None
        livekit_worker.tell("agent_state", old=event.old_state, new=event.new_state)
        if how and event.new_state == "listening" and session.history.items[-1].role == "assistant":
            asyncio.create_task(end(how))

    session.on("conversation_item_added", added)
    session.on("agent_state_changed", state)
    await session.start(Scripted(), room=ctx.room, room_options=room_io.RoomOptions(audio_input=False, audio_output=False))


if __name__ == "__main__":
    livekit_worker.run(__file__)
