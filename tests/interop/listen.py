"""Opens a listen page in headless Chromium and measures what is heard there.

usage: listen.py URL

Waits until the page has played a second of sound that is not silence, and prints a line of JSON: seconds played, the loudest sample
of the left and the right channel, and the lines that the page shows. Speaks Chromium's DevTools protocol over a WebSocket.
"""
import asyncio
import itertools
import json
import pathlib
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from websockets.asyncio.client import connect

PATIENCE_S = 60
PROBE = """
(() => {
  const audio = document.getElementById("audio");
  if (!window.probe) {
    const context = new AudioContext();
    const source = context.createMediaElementSource(audio);
    const splitter = context.createChannelSplitter(2);
    source.connect(splitter);
    source.connect(context.destination);
    window.probe = [0, 1].map((channel) => {
      const analyser = context.createAnalyser();
      analyser.fftSize = 32768;
      splitter.connect(analyser, channel);
      return analyser;
    });
    window.loudest = [0, 0];
  }
  window.probe.forEach((analyser, channel) => {
    const samples = new Float32Array(analyser.fftSize);
    analyser.getFloatTimeDomainData(samples);
    window.loudest[channel] = samples.reduce((most, sample) => Math.max(most, Math.abs(sample)), window.loudest[channel]);
  });
  return JSON.stringify({
    played_s: audio.currentTime, left: window.loudest[0], right: window.loudest[1],
    lines: document.getElementById("lines").textContent, state: document.getElementById("state").textContent,
  });
})()
"""


async def listen(page: str, url: str) -> dict:
    async with connect(page, max_size=None) as devtools:
        numbers = itertools.count(1)

        async def call(method: str, **params):
            number = next(numbers)
            await devtools.send(json.dumps({"id": number, "method": method, "params": params}))
            while True:
                answer = json.loads(await devtools.recv())
                if answer.get("id") == number:
                    return answer

        await call("Page.navigate", url=url)
        while True:
            answer = await call("Runtime.evaluate", expression=PROBE)
            value = answer.get("result", {}).get("result", {}).get("value")
            heard = json.loads(value) if value else {}
            if heard.get("played_s", 0) > 1 and heard["left"] > 0.01 and heard["lines"]:
                return heard
            await asyncio.sleep(0.1)


async def main(url: str) -> None:
    browser = shutil.which("chromium") or sys.exit("chromium is missing: scripts/setup test installs it")
    with tempfile.TemporaryDirectory() as profile:
        process = subprocess.Popen(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}",
             "--autoplay-policy=no-user-gesture-required", "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            port_file = pathlib.Path(profile) / "DevToolsActivePort"
            async with asyncio.timeout(PATIENCE_S):
                while not (port_file.exists() and port_file.read_text().count("\n")):
                    await asyncio.sleep(0.05)
                port = port_file.read_text().split()[0]
                page = None
                while page is None:
                    pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
                    page = next((entry for entry in pages if entry["type"] == "page"), None)
                print(json.dumps(await listen(page["webSocketDebuggerUrl"], url)), flush=True)
        finally:
            process.terminate()
            process.wait()


asyncio.run(main(sys.argv[1]))
