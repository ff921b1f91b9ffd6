"""A Pipecat bot as its user writes it after the quickstart, run by Pipecat's own development runner: `webrtc` (`/api/offer`, `/start`,
`/sessions/…`) and `websocket` (`/ws-client`, protobuf) at once, local parts only. Takes calls until it is ended; the runner's own options
(`--ws-auth token`, …) may follow.

Tells JSON lines on stdout, each with `told`: `port` once it listens; `ready` when a session's pipeline runs, with its `body`; `interrupted` when a
caller's turn stops it in the middle of an answer; `gone` when the caller is; at the end of a session `heard`: the seconds of audio, their `rates`,
the strongest frequency of each whole second that is not silent (`hz`), the types of the RTVI `messages`, the `body`, the `keys` pressed, the
`texts` received, the `client_messages`, the number of `answers`, and how often it was `interrupted`.

Modes: `echo` sends back what it hears. `scripted` is a whole pipeline: Silero VAD, Pipecat's user turns, and in the place of the three services
what needs no network: speech is understood as its length, the answers are the lines of fixtures/speech/agent-answer-*.wav in turn, and their
speech is the file.
"""

import argparse
import asyncio
import dataclasses
import json
import pathlib
import socket
import sys
import time
import wave

import uvicorn
from loguru import logger
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    BotStartedSpeakingFrame,
    BotStoppedSpeakingFrame,
    EndWorkerFrame,
    InputAudioRawFrame,
    InputDTMFFrame,
    InputTransportMessageFrame,
    InterruptionFrame,
    LLMContextFrame,
    LLMFullResponseEndFrame,
    LLMFullResponseStartFrame,
    LLMTextFrame,
    OutputAudioRawFrame,
    TranscriptionFrame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
)
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import LLMContextAggregatorPair, LLMUserAggregatorParams
from pipecat.processors.frame_processor import FrameDirection, FrameProcessor
from pipecat.processors.frameworks.rtvi import RTVIFunctionCallReportLevel, RTVIObserverParams
from pipecat.runner import run as runner
from pipecat.runner.utils import create_transport
from pipecat.serializers.protobuf import ProtobufFrameSerializer
from pipecat.services.llm_service import FunctionCallFromLLM, LLMService
from pipecat.services.settings import LLMSettings, STTSettings, TTSSettings
from pipecat.services.stt_service import SegmentedSTTService
from pipecat.services.tts_service import TTSService
from pipecat.transports.base_transport import TransportParams
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams
from pipecat.transports.websocket.server import SingleClientWebsocketServerTransport, SingleClientWebsocketServerParams
from pipecat.turns.user_start import VADUserTurnStartStrategy
from pipecat.turns.user_stop import SpeechTimeoutUserTurnStopStrategy
from pipecat.turns.user_turn_strategies import UserTurnStrategies
from pipecat.utils.time import time_now_iso8601
from pipecat.workers.runner import WorkerRunner
from pipecat_sound import seconds_and_tones

SPEECH = pathlib.Path(__file__).resolve().parents[2] / "fixtures/speech"
LINES = {line["text"]: SPEECH / line["file"] for line in json.loads((SPEECH / "index.json").read_text())}
GREETING, *ANSWERS = [text for text, file in LINES.items() if file.name.startswith("agent-")]

transport_params = {
    "webrtc": lambda: TransportParams(audio_in_enabled=True, audio_out_enabled=True),
    "websocket": lambda: FastAPIWebsocketParams(
        audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer()
    ),
}


def tell(what, **more):
    print(json.dumps({"told": what, **more}), flush=True)


class Ears(FrameProcessor):
    """What comes from the caller. In the mode `echo` it goes back."""

    def __init__(self, echo):
        super().__init__()
        self.echo, self.audio, self.rates, self.messages, self.keys = echo, bytearray(), set(), [], []

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, InputAudioRawFrame):
            self.audio += frame.audio
            self.rates.add(frame.sample_rate)
            if self.echo:
                await self.push_frame(OutputAudioRawFrame(frame.audio, frame.sample_rate, frame.num_channels))
                return
        elif isinstance(frame, InputTransportMessageFrame):
            self.messages.append(frame.message.get("type"))
        elif isinstance(frame, InputDTMFFrame):
            self.keys.append(str(getattr(frame.button, "value", frame.button)))
        await self.push_frame(frame, direction)


class LengthSTT(SegmentedSTTService):
    """Understands how long somebody spoke."""

    def __init__(self):
        super().__init__(settings=STTSettings(model=None, language=None), ttfs_p99_latency=0.0, trailing_silence_secs=0)

    @property
    def wants_wav_segments(self):
        return False

    async def run_stt(self, audio):
        text = f"{len(audio) / 2 / self.sample_rate:.0f} seconds of speech"
        yield TranscriptionFrame(text, "", time_now_iso8601(), finalized=True)


class LinesLLM(LLMService):
    """Answers with the lines in turn; the first answer looks something up, where there is a function."""

    def __init__(self, options):
        super().__init__(settings=LLMSettings(**dict.fromkeys(field.name for field in dataclasses.fields(LLMSettings) if field.name != "extra")))
        self.options, self.said, self.texts, self.speaks, self.cut_short = options, 0, [], None, 0
        self.register_function("free_appointments", self.free_appointments)

    async def free_appointments(self, params):
        await params.result_callback({"day": params.arguments["day"], "free": ["09:00", "11:00"]})

    async def process_frame(self, frame, direction):
        await super().process_frame(frame, direction)
        if isinstance(frame, LLMContextFrame):
            await self.answer(frame.context)
            return
        if isinstance(frame, BotStartedSpeakingFrame):
            self.speaks = time.monotonic()
        elif isinstance(frame, BotStoppedSpeakingFrame):
            self.speaks = None
            if self.said == self.options.hang_up_after:
                await self.push_frame(EndWorkerFrame(), FrameDirection.UPSTREAM)
        elif isinstance(frame, InterruptionFrame) and self.speaks is not None:
            self.cut_short += 1
            tell("interrupted", after=time.monotonic() - self.speaks)
            self.speaks = None
        await self.push_frame(frame, direction)

    async def answer(self, context):
        last = context.get_messages()[-1]
        if last["role"] == "user" and not last["content"].endswith("seconds of speech"):
            self.texts.append(last["content"])
        if self.options.function and self.said == 0 and last["role"] == "user":
            asked = FunctionCallFromLLM("free_appointments", "call-1", {"day": "Friday"}, context)
            await self.run_function_calls([asked])
            return
        line = ANSWERS[self.said % len(ANSWERS)]
        self.said += 1
        await self.push_frame(LLMFullResponseStartFrame())
        await self.push_frame(LLMTextFrame(line))
        await self.push_frame(LLMFullResponseEndFrame())


class FileTTS(TTSService):
    """Speaks the lines from their files, of which each sentence gets its share."""

    def __init__(self):
        super().__init__(
            settings=TTSSettings(model=None, voice=None, language=None), push_start_frame=True, push_stop_frames=True
        )

    async def run_tts(self, text, context_id):
        line = next(line for line in LINES if text in line)
        begin = line.index(text)
        with wave.open(str(LINES[line])) as speech:
            audio, rate, length = speech.readframes(speech.getnframes()), speech.getframerate(), speech.getnframes()
        # The space after a sentence is the sentence's.
        first, last = (length * at // (len(line) + 1) for at in (begin, begin + len(text) + 1))
        yield TTSAudioRawFrame(audio[2 * first : 2 * last], rate, 1, context_id=context_id)


async def run_bot(transport, body, options):
    await asyncio.sleep(options.slow_start)
    ears, llm = Ears(options.mode == "echo"), LinesLLM(options)
    client_messages = []
    if options.mode == "echo":
        parts = [ears]
    else:
        stop = SpeechTimeoutUserTurnStopStrategy(user_speech_timeout=options.pause)
        turns = UserTurnStrategies(start=[VADUserTurnStartStrategy()], stop=[stop])
        user = LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer(), user_turn_strategies=turns)
        aggregators = LLMContextAggregatorPair(LLMContext(), user_params=user)
        parts = [ears, LengthSTT(), aggregators.user(), llm, FileTTS()]
    after = [] if options.mode == "echo" else [aggregators.assistant()]
    level = RTVIFunctionCallReportLevel.FULL if options.function == "told" else RTVIFunctionCallReportLevel.NONE
    worker = PipelineWorker(
        Pipeline([transport.input(), *parts, transport.output(), *after]),
        params=PipelineParams(audio_out_sample_rate=options.rate_out),
        enable_rtvi=not options.no_rtvi,
        rtvi_observer_params=RTVIObserverParams(function_call_report_level={"*": level}),
    )

    if not options.no_rtvi:

        @worker.rtvi.event_handler("on_client_message")
        async def client_message(rtvi, message):
            client_messages.append({"t": message.type, "d": message.data})
            await rtvi.send_server_response(message, {"heard": message.data})

    @worker.event_handler("on_pipeline_started")
    async def started(_worker, _frame):
        tell("ready", body=body)

    @transport.event_handler("on_client_connected")
    async def connected(_transport, _client):
        if options.greet:
            await worker.queue_frame(TTSSpeakFrame(GREETING))

    @transport.event_handler("on_client_disconnected")
    async def gone(_transport, _client):
        tell("gone")
        await worker.cancel()

    workers = WorkerRunner(handle_sigint=False)
    await workers.add_workers(worker)
    await workers.run()
    rate = max(ears.rates, default=16000)
    tell(
        "heard",
        rates=sorted(ears.rates),
        **seconds_and_tones(ears.audio, rate),
        messages=ears.messages,
        body=body,
        keys=ears.keys,
        texts=llm.texts,
        client_messages=client_messages,
        answers=llm.said,
        interrupted=llm.cut_short,
    )


async def bot(runner_args):
    """What the runner calls for each session."""
    options = runner_args.cli_args
    if options.busy:
        busy.append(asyncio.create_task(be_busy(options.busy / 1000)))
    await run_bot(await create_transport(runner_args, transport_params), runner_args.body, options)


async def be_busy(seconds):
    """Another's work on the bot's event loop."""
    while True:
        time.sleep(seconds)
        await asyncio.sleep(0.005)


def offer_loopback():
    """aioice never offers 127.0.0.1; a test's traffic is to stay there."""
    import aioice.ice

    aioice.ice.get_host_addresses = lambda use_ipv4, use_ipv6: ["127.0.0.1"]


async def serve_itself(options):
    """A bot without the runner, whose transport is the server (one client at a time)."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    params = SingleClientWebsocketServerParams(audio_in_enabled=True, audio_out_enabled=True, serializer=ProtobufFrameSerializer())
    transport = SingleClientWebsocketServerTransport(params, host="127.0.0.1", port=port)

    @transport.event_handler("on_websocket_ready")
    async def ready(_transport):
        tell("port", port=port)

    await run_bot(transport, None, options)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A Pipecat bot under test")
    parser.add_argument("mode", choices=("echo", "scripted"))
    parser.add_argument("--greet", action="store_true", help="say the first word")
    parser.add_argument("--pause", type=float, default=0.3, help="seconds of silence that end the caller's turn, after the VAD's 0.2 s")
    parser.add_argument("--hang-up-after", type=int, help="hang up after so many answers")
    parser.add_argument("--function", choices=("told", "hidden"), help="look something up before the first answer, with its name told or not")
    parser.add_argument("--slow-start", type=float, default=0.0, help="seconds until the pipeline is made")
    parser.add_argument("--busy", type=float, default=0.0, help="keep the event loop busy for so many milliseconds at a time")
    parser.add_argument("--rate-out", type=int, default=24000)
    parser.add_argument("--no-rtvi", action="store_true")
    parser.add_argument("--loopback", action="store_true", help="offer 127.0.0.1 as ICE candidate, and nothing else")
    parser.add_argument("--serve-itself", action="store_true", help="no runner: SingleClientWebsocketServerTransport")
    parser.add_argument("--certificate")
    parser.add_argument("--key")
    options, _ = parser.parse_known_args()
    busy = []
    if options.loopback:
        offer_loopback()
    if options.serve_itself:
        logger.remove()
        logger.add(sys.stderr, level="WARNING")
        asyncio.run(serve_itself(options))
        sys.exit()
    # The runner's own last step, with a socket that is ours already: nobody else can take the port meanwhile.
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]

    def serve(app, **_):
        logger.remove()
        logger.add(sys.stderr, level="WARNING")
        tls = {"ssl_certfile": options.certificate, "ssl_keyfile": options.key}
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", ws="websockets-sansio", **tls))
        tell("port", port=port)
        server.run(sockets=[listener])

    uvicorn.run = serve
    sys.argv += ["--host", "127.0.0.1", "--port", str(port)]
    runner.main(parser)
