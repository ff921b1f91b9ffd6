"""Opens a listen page in headless Chromium and measures what is heard there.

usage: listen.py URL

Waits until the page has played a second of sound that is not silence, and prints a line of JSON: seconds played, the loudest sample
of the left and the right channel, and the lines that the page shows.
"""
import asyncio
import json
import sys

from browser import open_page

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


async def main(url: str) -> None:
    async with open_page(url) as page:
        while True:
            value = await page.evaluate(PROBE)
            heard = json.loads(value) if value else {}
            if heard.get("played_s", 0) > 1 and heard["left"] > 0.01 and heard["lines"]:
                print(json.dumps(heard), flush=True)
                return
            await asyncio.sleep(0.1)


asyncio.run(main(sys.argv[1]))
