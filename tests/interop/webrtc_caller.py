"""A client of SmallWebRTC of aiortc alone: offers to a server, sends a tone, and tells JSON lines of what comes.

usage: webrtc_caller.py URL [--token T] [--data JSON] [--hz HZ] [--seconds S] [--say JSON]… [--again renegotiate|restart] [--late]

`--say` goes over the data channel once it is open. `--again` offers a second time in the middle of the call, on the same connection or on another in its
place. `--late` tells its candidates afterwards, by PATCH. Tells `answer`, `connected`, `message` for each message, `closed` when the far side
has hung up, and at the end `heard`: the seconds of audio and the strongest frequency of each whole second that is not silent.
"""

import argparse
import asyncio
import json
import urllib.error
import urllib.request

from aiortc_sound import Ears, Tone
from aiortc import RTCBundlePolicy, RTCConfiguration, RTCPeerConnection, RTCSessionDescription

parser = argparse.ArgumentParser()
parser.add_argument("url")
parser.add_argument("--token")
parser.add_argument("--data", type=json.loads)
parser.add_argument("--hz", type=float, default=700)
parser.add_argument("--seconds", type=float, default=4)
parser.add_argument("--say", action="append", default=[])
parser.add_argument("--again", choices=("renegotiate", "restart"))
parser.add_argument("--late", action="store_true")
options = parser.parse_args()


def tell(what, **more):
    print(json.dumps({"told": what, **more}), flush=True)


ears, over = Ears(), asyncio.Event()


def ask(method, body):
    request = urllib.request.Request(options.url, json.dumps(body).encode(), {"content-type": "application/json"}, method=method)
    if options.token:
        request.add_header("authorization", f"Bearer {options.token}")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


async def connect(more):
    """A connection that is offered, and how it is named."""
    peer = RTCPeerConnection(RTCConfiguration(iceServers=[], bundlePolicy=RTCBundlePolicy.MAX_BUNDLE))
    peer.addTrack(Tone(options.hz))
    channel = peer.createDataChannel("chat")
    up = asyncio.Event()

    @channel.on("open")
    def opened():
        for message in options.say:
            channel.send(message)

    @channel.on("message")
    def message(text):
        told = json.loads(text)
        tell("message", message=told)
        if told.get("type") == "signalling" and told["message"]["type"] == "peerLeft":
            over.set()

    @peer.on("track")
    def track(track):
        asyncio.ensure_future(ears.listen(track))

    @peer.on("connectionstatechange")
    def changed():
        if peer.connectionState == "connected":
            tell("connected")
            up.set()

    named = await offer(peer, more)
    async with asyncio.timeout(30):
        await up.wait()
    return peer, named


async def offer(peer, more):
    await peer.setLocalDescription(await peer.createOffer())
    sdp = peer.localDescription.sdp
    late = [line[2:] for line in sdp.splitlines() if line.startswith("a=candidate:")] if options.late else []
    if late:
        sdp = "".join(f"{line}\r\n" for line in sdp.splitlines() if "candidate" not in line)
    body = {"sdp": sdp, "type": "offer", **more}
    if options.data is not None:
        body["request_data"] = options.data
    answer = await asyncio.to_thread(ask, "POST", body)
    tell("answer", pc_id=answer["pc_id"], again=bool(more), sdp=answer["sdp"])
    await peer.setRemoteDescription(RTCSessionDescription(answer["sdp"], answer["type"]))
    if late:
        told = [{"candidate": candidate, "sdp_mid": "0", "sdp_mline_index": 0} for candidate in late]
        tell("trickled", answer=await asyncio.to_thread(ask, "PATCH", {"pc_id": answer["pc_id"], "candidates": told}))
    return answer["pc_id"]


async def main():
    try:
        peer, named = await connect({})
    except urllib.error.HTTPError as error:
        tell("refused", status=error.code, detail=json.load(error)["detail"])
        return
    if options.again:
        await asyncio.sleep(options.seconds / 2)
        if options.again == "renegotiate":
            await offer(peer, {"pc_id": named})
        else:
            before = peer
            peer, named = await connect({"pc_id": named, "restart_pc": True})
            # The far side has let go of it already.
            await before.close()
    try:
        async with asyncio.timeout(options.seconds):
            await over.wait()
        tell("closed")
    except TimeoutError:
        pass
    await peer.close()
    tell("heard", **ears.heard())


asyncio.run(main())
