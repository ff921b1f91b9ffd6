"""A stand-in for Cekura's API that carries out chats, written from its published reference and not from Trunkline's code.

`api_chat` runs are to be polled; `text` and `websocket` runs dial the agent's WebSocket. `GET /seen` tells what was posted.

Scenarios: 1 the caller opens with a line; 2 the agent is to open; 3 a turn of the caller fails, and the chat with it;
4 the caller ends the chat as soon as it is answered; 5 turns are numbered in texts; 6 posts are taken and get no turn.
"""

import argparse
import json
import re
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from websockets.exceptions import WebSocketException
from websockets.sync.client import connect

LINES = {1: ["Hello, a table please", "For two", "Thanks, that is all"], 2: [None, "A table please", "Bye"], 3: ["Hello", "ERROR"], 4: ["Hello", "Bye"]}
LOCK = threading.RLock()


class Run:
    def __init__(self, run_id, result_id, scenario):
        self.id, self.result_id, self.scenario = run_id, result_id, scenario
        self.made = time.monotonic()
        self.status, self.success = "pending", None
        self.lines = list(LINES.get(scenario, LINES[1]))
        self.turns = {}
        self.posts, self.ended, self.reason = [], False, None

    def move(self):
        if self.status == "pending" and time.monotonic() > self.made + 0.5:
            self.status = "in_progress"
            self.turns[0] = (time.monotonic() + 0.6, self.lines.pop(0))

    def starting(self):
        self.move()
        return self.status == "pending" or time.monotonic() < self.made + 0.9

    def end(self, reason, success):
        if not self.ended:
            self.ended, self.reason, self.status, self.success = True, reason, "completed", success

    def state(self):
        self.move()
        return {"id": self.id, "status": self.status, "success": self.success, "scenario": self.scenario,
                "scenario_name": f"chat {self.scenario}", "executed_at": None, "metadata": {"call_ended_reason": self.reason}}

    def turn(self, number):
        ready_at, message = self.turns[number]
        newest = number == max(self.turns)
        if time.monotonic() < ready_at:
            return {"status": "generating" if newest else "dropped", "message": None, "ended": self.ended}
        if message == "ERROR":
            self.end("Testing agent-pipeline-error", False)
            return {"status": "error", "message": "the model failed", "ended": self.ended}
        # Who has nothing more to say hangs up, also when its last line was overtaken by the agent.
        if not self.lines and newest:
            self.end("Testing agent-ended-call", True)
        return {"status": "ready", "message": message, "ended": self.ended, "ended_reason": self.reason}


class Api:
    results, runs, headers, ids = {}, {}, [], iter(range(100, 10_000))

    def start(self, body, scenarios, work=None):
        with LOCK:
            result_id = next(self.ids)
            runs = [Run(next(self.ids), result_id, scenario) for scenario in scenarios]
            self.results[result_id] = (body.get("name"), runs)
            self.runs.update({run.id: run for run in runs})
        for run in runs:
            if work:
                threading.Thread(target=work, args=(run,), daemon=True).start()
        return result_id

    def result(self, result_id):
        name, runs = self.results[result_id]
        states = [run.state() for run in runs]
        over = all(run["status"] == "completed" for run in states)
        return {"id": result_id, "name": name, "status": "completed" if over else "in_progress", "agent": 1,
                "total_runs_count": len(runs), "success_runs_count": sum(run["success"] is True for run in states),
                "runs": {str(run["id"]): run for run in states}}


API = Api()


def dial(run, url, headers):
    """Cekura's side of a text run: says its lines, ends the session, waits a second, closes."""
    run.status = "in_progress"
    ids = {"X-VOCERA-RUN-ID": str(run.id), "X-VOCERA-RESULT-ID": str(run.result_id), "X-VOCERA-SCENARIO-ID": str(run.scenario)}
    said, ended = [], False
    try:
        with connect(url, additional_headers={**headers, **ids}, ping_interval=None) as ws:
            for line in [line for line in run.lines if line]:
                ws.send(json.dumps({"content": line}))
                while True:
                    frame = json.loads(ws.recv(30))
                    run.posts.append(frame)
                    ended = frame.get("type") == "end_call"
                    if frame.get("content") or ended:
                        break
                if ended:
                    break
                said.append(frame["content"])
            if not ended:
                ws.send(json.dumps({"type": "end_call"}))
                time.sleep(1)
    except (WebSocketException, OSError, TimeoutError) as error:
        run.posts.append({"error": str(error)})
    run.end("Main agent-ended-call" if ended else "Testing agent-ended-call", len(said) == len([line for line in run.lines if line]))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=None):
        data = b"" if body is None else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def do_GET(self):
        with LOCK:
            if self.path == "/seen":
                runs = [{"id": run.id, "posts": run.posts, "reason": run.reason} for run in API.runs.values()]
                return self.answer(200, {"runs": runs})
            if found := re.fullmatch(r"/test_framework/v1/results/(\d+)/", self.path):
                return self.answer(200, API.result(int(found[1])))
            if found := re.fullmatch(r"/test_framework/v1/runs/(\d+)/chat/(\d+)/", self.path):
                run, turn = API.runs[int(found[1])], int(found[2])
                if run.starting():
                    return self.answer(409)
                return self.answer(200, {"run_id": run.id, "result_id": run.result_id, "turn_id": turn, **run.turn(turn)})
        self.answer(404, {"detail": "Not found."})

    def do_POST(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}")
        if found := re.fullmatch(r"/test_framework/v1/scenarios/run_scenarios_(\w+)/", self.path):
            return self.start(found[1], body)
        with LOCK:
            if found := re.fullmatch(r"/test_framework/v1/runs/(\d+)/chat/", self.path):
                run = API.runs[int(found[1])]
                if run.starting() or run.ended:
                    return self.answer(409)
                run.posts.append(body)
                if "content" in body:
                    # A content post is answered by the next line; an older turn that is not there yet will never be.
                    ready_at, message = run.turns[max(run.turns)]
                    if time.monotonic() < ready_at:
                        run.lines.insert(0, message)
                    run.turns[max(run.turns) + 1] = (time.monotonic() + 0.4, run.lines.pop(0) if run.lines else None)
                if run.scenario == 4:
                    run.end("Testing agent-ended-call", True)
                turn = {5: str(max(run.turns)), 6: None}.get(run.scenario, max(run.turns))
                return self.answer(202, {"run_id": run.id, "result_id": run.result_id, "turn_id": turn, "status": "generating"})
            if found := re.fullmatch(r"/test_framework/v1/runs/(\d+)/end-chat/", self.path):
                run = API.runs[int(found[1])]
                run.posts.append({"end-chat": body.get("reason")})
                run.end("Main agent-ended-call", False)
                return self.answer(200, {"run_id": run.id, "result_id": run.result_id, "status": "completed"})
            if re.fullmatch(r"/test_framework/v1/results/(\d+)/end_calls/", self.path):
                for run in API.runs.values():
                    run.end("run-cancelled-by-user", False)
                return self.answer(200)
        self.answer(404, {"detail": "Not found."})

    def start(self, mode, body):
        if mode == "api_chat":
            result_id = API.start(body, body["scenarios"])
        elif mode == "text":
            url, headers = body["websocket_url"], body.get("websocket_headers") or {}
            result_id = API.start(body, body["scenarios"], lambda run: dial(run, url, headers))
        else:
            urls = {entry["scenario"]: entry["websocket_url"] for entry in body["scenarios"]}
            result_id = API.start(body, list(urls) * body["frequency"], lambda run: dial(run, urls[run.scenario], {}))
        state = API.result(result_id)
        self.answer(200, {**state, "runs": list(state["runs"].values())})


parser = argparse.ArgumentParser()
parser.parse_args()
server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
