"""Starts a run with the cekura package's client, waits for it, and reads its run.

usage: sdk_run.py METHOD BASE_URL API_KEY REQUEST_JSON, METHOD being one of `client.scenarios`: run_livekit_v2, run_pipecat, …

Prints {"started", "result", "run"}; a start that is refused prints {"refused": STATUS, "body"}.
"""
import json
import sys

from cekura import Cekura
from cekura._exceptions import APIError

METHOD, BASE, KEY, REQUEST = sys.argv[1:5]
client = Cekura(api_key=KEY, base_url=BASE)
try:
    started = getattr(client.scenarios, METHOD)(**json.loads(REQUEST))
except APIError as error:
    print(json.dumps({"refused": error.status_code, "body": str(error)}))
    sys.exit()
result = client.results.wait(started["id"], poll_interval=1)
run = client.runs.get(client.runs.list(result_id=started["id"])["results"][0]["id"])
print(json.dumps({"started": started, "result": result, "run": run}))
