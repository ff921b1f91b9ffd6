// A page that calls with Pipecat's JavaScript client. `call(parameters)` connects, `told` is what the client has told, `heard()` is what came
// of the bot's voice since it was last asked: how many seconds, and the pitch that is strongest, in Hz.
//
// Its microphone is the transports' own WavMediaManager: the other one loads its code from Daily's servers.

import { PipecatClient } from "@pipecat-ai/client-js";
import * as webRtc from "@pipecat-ai/small-webrtc-transport";
import * as webSocket from "@pipecat-ai/websocket-transport";

// What the client's player is set to, whatever rate a frame says.
const PLAYER_RATE = 24000;
const FFT_SIZE = 4096;

const told = [];
let client;
let hears = () => ({ seconds: 0, hz: 0 });

class Ear extends webSocket.WavMediaManager {
  samples = [];

  bufferBotAudio(data, id) {
    this.samples.push(...new Int16Array(data instanceof Int16Array ? data.buffer : data));
    return super.bufferBotAudio(data, id);
  }
}

// The pitch of a tone: how often it rises through zero.
function pitch(samples, rate) {
  const loud = samples.findIndex((sample) => Math.abs(sample) > 1000);
  const tone = loud < 0 ? [] : samples.slice(loud, loud + rate);
  const rises = tone.filter((sample, at) => at > 0 && tone[at - 1] < 0 && sample >= 0).length;
  return tone.length === 0 ? 0 : Math.round((rises * rate) / tone.length);
}

function transport(kind) {
  if (kind === "websocket") {
    const ear = new Ear(undefined, 16000);
    hears = () => ({ seconds: ear.samples.length / PLAYER_RATE, hz: pitch(ear.samples, PLAYER_RATE) });
    return new webSocket.WebSocketTransport({ mediaManager: ear });
  }
  return new webRtc.SmallWebRTCTransport({ mediaManager: new webRtc.WavMediaManager(), waitForICEGathering: false });
}

// A track of the bot is listened to as a page plays it.
function listen(track) {
  const context = new AudioContext();
  const analyser = new AnalyserNode(context, { fftSize: FFT_SIZE });
  const stream = new MediaStream([track]);
  const player = new Audio();
  player.srcObject = stream;
  player.muted = true;
  player.play();
  new MediaStreamAudioSourceNode(context, { mediaStream: stream }).connect(analyser);
  const bins = new Float32Array(analyser.frequencyBinCount);
  let seconds = 0;
  let hz = 0;
  setInterval(() => {
    analyser.getFloatFrequencyData(bins);
    const strongest = bins.indexOf(Math.max(...bins));
    if (bins[strongest] > -50) {
      seconds += 0.05;
      hz = Math.round((strongest * context.sampleRate) / FFT_SIZE);
    }
  }, 50);
  hears = () => ({ seconds, hz });
}

async function call({ kind, start, connect }) {
  const tell = (what) => (data) => told.push({ told: what, data });
  const callbacks = Object.fromEntries(
    ["BotReady", "Error", "UserStartedSpeaking", "UserStoppedSpeaking", "BotStartedSpeaking", "BotStoppedSpeaking", "UserTranscript",
      "BotOutput", "LLMFunctionCallInProgress", "LLMFunctionCallStopped", "BotDisconnected", "Disconnected", "Connected"]
      .map((name) => [`on${name}`, tell(name)]),
  );
  callbacks.onTransportStateChanged = tell("state");
  callbacks.onTrackStarted = (track, participant) => {
    told.push({ told: "track", data: { kind: track.kind, local: participant?.local ?? false } });
    if (track.kind === "audio" && !participant?.local) listen(track);
  };
  client = new PipecatClient({ transport: transport(kind), enableMic: true, enableCam: false, callbacks });
  if (start) await client.startBotAndConnect({ ...start, headers: new Headers(start.headers ?? {}) });
  else await client.connect(connect);
}

Object.assign(window, {
  told,
  call: (parameters) => call(parameters).catch((error) => told.push({ told: "failed", data: String(error?.message ?? error?.status ?? error) })),
  heard: () => hears(),
  client: () => client,
});
