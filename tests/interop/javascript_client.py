"""Calls with Pipecat's JavaScript client from a page in headless Chromium, with a microphone that plays a WAV file.

usage: javascript_client.py CALL WAV SECONDS [--then EXPRESSION ...]

CALL is JSON for `call` of javascript/pipecat_client.js. The page comes from another origin than what it calls. Waits until the bot is ready and was heard
for SECONDS, evaluates each EXPRESSION (`--then`) until it is true, hangs up, and prints a line of JSON: what the client `told`, and what was `heard` of the bot.
A call that fails is `told` of as `failed`.
"""

import argparse
import asyncio
import contextlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import threading

from browser import open_page

HERE = pathlib.Path(__file__).parent / "javascript"
MODULES = pathlib.Path(__file__).parents[2] / "target/javascript/node_modules"


@contextlib.contextmanager
def served_page():
    """The page, bundled as a user's is, at an origin of its own."""
    bundler = MODULES / ".bin/esbuild"
    if not bundler.exists():
        sys.exit("Pipecat's JavaScript client is missing: scripts/javascript-env installs it")
    with tempfile.TemporaryDirectory() as folder:
        bundle = [str(bundler), "--bundle", "--format=iife", "--log-level=warning", str(HERE / "pipecat_client.js"), f"--outfile={folder}/page.js"]
        subprocess.run(bundle, check=True, env={**os.environ, "NODE_PATH": str(MODULES)})
        pathlib.Path(folder, "index.html").write_text('<!doctype html><title>A client</title><script src="page.js"></script>')

        class Handler(http.server.SimpleHTTPRequestHandler):
            def __init__(self, *arguments):
                super().__init__(*arguments, directory=folder)

            def log_message(self, *_):
                pass

        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            yield f"http://127.0.0.1:{server.server_port}/"
            server.shutdown()


async def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("call", type=json.loads)
    parser.add_argument("wav")
    parser.add_argument("seconds", type=float)
    parser.add_argument("--then", action="append", default=[])
    options = parser.parse_args()
    flags = ("--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream", f"--use-file-for-fake-audio-capture={options.wav}")
    with served_page() as url:
        async with open_page(url, *flags) as page:
            await page.until('document.readyState === "complete" && typeof window.call === "function"')
            await page.evaluate(f"void call({json.dumps(options.call)})")
            failed = 'told.some(({told}) => told === "failed")'
            ready = 'told.some(({told}) => told === "BotReady")'
            try:
                await page.until(f"{failed} || ({ready} && heard().seconds >= {options.seconds})")
                has_failed = await page.evaluate(failed)
                for expression in options.then if not has_failed else []:
                    await page.until(expression)
            except TimeoutError:
                sys.exit(f"waited in vain: {await page.evaluate('JSON.stringify({heard: heard(), told})')}")
            if not has_failed:
                heard = await page.evaluate("JSON.stringify(heard())")
                await page.evaluate("client().disconnect()")
                await page.until('told.some(({told}) => told === "Disconnected")')
            else:
                heard = "null"
            told = await page.evaluate("JSON.stringify(told)")
            print(f'{{"heard": {heard}, "told": {told}}}', flush=True)


asyncio.run(main())
