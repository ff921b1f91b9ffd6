"""Calls an agent from the page of a WebRTC door in headless Chromium, as a user does: with a microphone that plays a WAV file.

usage: call_page.py URL WAV SCREENSHOT SECONDS TEXT

Presses Call, waits until the agent was heard for SECONDS, presses the key 7, writes TEXT, takes a screenshot, and hangs up. Prints a line of JSON: for how
long the agent was `heard`, the `states` that the page showed, and the lines of its `log`.
"""

import asyncio
import json
import sys

from browser import open_page

PROBE = """
window.seen = {states: [], heard: 0};
new MutationObserver(() => seen.states.push(document.getElementById("state").textContent))
  .observe(document.getElementById("state"), {childList: true, characterData: true, subtree: true});
window.watching = setInterval(() => { if (document.getElementById("theirs").value > 0.05) seen.heard += 0.05; }, 50);
true
"""


async def main(url, wav, screenshot, seconds, text):
    flags = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={wav}",
             "--window-size=900,900")
    async with open_page(url, *flags) as page:
        await page.until('document.readyState === "complete" && document.getElementById("keys").children.length === 12')
        await page.evaluate(PROBE)
        await page.evaluate('document.getElementById("call").click()')
        await page.until(f"seen.heard >= {float(seconds)}")
        await page.evaluate('[...document.querySelectorAll(".key")].find(key => key.textContent === "7").click()')
        await page.evaluate(f'document.getElementById("text").value = {json.dumps(text)}; document.querySelector("#write button").click()')
        await page.screenshot(screenshot)
        await page.evaluate('document.getElementById("call").click()')
        await page.until('document.getElementById("state").textContent === "not connected"')
        log = '[...document.querySelectorAll("#log li span")].map(line => line.textContent)'
        print(await page.evaluate(f"JSON.stringify({{heard: seen.heard, states: seen.states, log: {log}}})"), flush=True)


asyncio.run(main(*sys.argv[1:]))
