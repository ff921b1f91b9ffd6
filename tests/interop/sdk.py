"""Drives an API through both of the cekura package's clients.

usage: sdk.py BASE_URL API_KEY AGENT_WEBSOCKET_URL

Starts a CHIRP run with each, waits for it, and reads its run; prints a line of JSON with what each client saw.
"""
import asyncio
import json
import sys

from cekura import AsyncCekura, Cekura
from cekura._exceptions import APIError, AuthenticationError, NotFoundError

BASE, KEY, AGENT = sys.argv[1:4]
BODY = {"agent_id": 1, "scenarios": [1], "websocket_url": AGENT}


def summary(started: dict, result: dict, runs: dict, run: dict, rescored: dict) -> dict:
    return {
        "result_id": started["id"],
        "status": result["status"],
        "success_rate": result["success_rate"],
        "listed": [row["id"] for row in runs["results"]],
        "run_id": run["id"],
        "metrics": [metric["function_name"] for metric in run["evaluation"]["metrics"]],
        "rescored": rescored["success_runs_count"],
    }


def scoring(run: dict) -> dict:
    return {"run_ids": [str(run["id"])], "metric_ids": ["1", "3"]}


def blocking() -> dict:
    client = Cekura(api_key=KEY, base_url=BASE)
    errors = []
    try:
        Cekura(api_key="wrong", base_url=BASE).results.list()
    except AuthenticationError:
        errors.append("authentication")
    try:
        client.results.get(1)
    except NotFoundError:
        errors.append("not found")
    try:
        client.scenarios.run_livekit_v2(agent_id=1, scenarios=[1])
    except APIError as error:
        errors.append(error.status_code)
    started = client.scenarios.run_chirp(**BODY)
    result = client.results.wait(started["id"], poll_interval=1)
    run = client.runs.get(client.runs.list(result_id=started["id"])["results"][0]["id"])
    rescored = client.results.evaluate_metrics(started["id"], **scoring(run))
    seen = summary(started, result, client.runs.list(result_id=started["id"]), run, rescored)
    seen["errors"] = errors
    return seen


async def waiting() -> dict:
    client = AsyncCekura(api_key=KEY, base_url=BASE)
    started = await client.scenarios.run_chirp(**BODY)
    result = await client.results.wait(started["id"], poll_interval=1)
    runs = await client.runs.list(result_id=started["id"])
    run = await client.runs.get(runs["results"][0]["id"])
    rescored = await client.results.evaluate_metrics(started["id"], **scoring(run))
    return summary(started, result, runs, run, rescored)


print(json.dumps({"sync": blocking(), "async": asyncio.run(waiting())}))
