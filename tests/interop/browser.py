"""A page in headless Chromium, steered over its DevTools protocol."""

import asyncio
import base64
import contextlib
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


class Page:
    def __init__(self, devtools):
        self.devtools, self.numbers = devtools, itertools.count(1)

    async def call(self, method: str, **params):
        number = next(self.numbers)
        await self.devtools.send(json.dumps({"id": number, "method": method, "params": params}))
        while True:
            answer = json.loads(await self.devtools.recv())
            if answer.get("id") == number:
                return answer.get("result", {})

    async def evaluate(self, expression: str):
        """The value of an expression; None where it has none yet. It counts as asked for by the user."""
        answer = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, userGesture=True)
        return answer.get("result", {}).get("value")

    async def until(self, expression: str):
        """Waits until an expression has a value that counts as true."""
        async with asyncio.timeout(PATIENCE_S):
            while not (value := await self.evaluate(expression)):
                await asyncio.sleep(0.05)
        return value

    async def screenshot(self, file: str) -> None:
        shot = await self.call("Page.captureScreenshot", format="png")
        pathlib.Path(file).write_bytes(base64.b64decode(shot["data"]))


@contextlib.asynccontextmanager
async def open_page(url: str, *flags: str):
    browser = shutil.which("chromium") or sys.exit("chromium is missing: scripts/setup test installs it")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [browser, "--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", f"--user-data-dir={profile}",
             "--autoplay-policy=no-user-gesture-required", *flags, "about:blank"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )
        try:
            port_file = pathlib.Path(profile) / "DevToolsActivePort"
            async with asyncio.timeout(PATIENCE_S):
                while not (port_file.exists() and port_file.read_text().count("\n")):
                    await asyncio.sleep(0.05)
                port = port_file.read_text().split()[0]
                entry = None
                while entry is None:
                    pages = json.load(urllib.request.urlopen(f"http://127.0.0.1:{port}/json"))
                    entry = next((entry for entry in pages if entry["type"] == "page"), None)
            async with connect(entry["webSocketDebuggerUrl"], max_size=None) as devtools:
                page = Page(devtools)
                await page.call("Page.navigate", url=url)
                yield page
        finally:
            process.terminate()
            process.wait()
