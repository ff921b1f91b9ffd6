"""An independent agent of API chats, written from the API reference and not from Trunkline's code.

usage: rest_agent.py BASE_URL RUN_ID [--hang-up]

Waits until the run's chat is open, answers each of the caller's messages over REST, calls a function once, and prints a line of
JSON with the turns as it saw them. With --hang-up it ends the chat itself after its first answer.
"""
import json
import sys
import time
import urllib.error
import urllib.request

BASE, RUN = sys.argv[1], sys.argv[2]
HANG_UP = "--hang-up" in sys.argv
CHAT = f"{BASE}/test_framework/v1/runs-external/{RUN}"
PATIENCE_S = 60


def ask(path: str, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"{CHAT}/{path}/", data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, json.load(answer)
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(probe):
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        found = probe()
        if found is not None:
            return found
        time.sleep(0.05)
    sys.exit("waited in vain")


def turn(number: int) -> dict:
    def ready():
        status, answer = ask(f"chat/{number}")
        return answer if status == 200 and answer["status"] != "generating" else None

    return until(ready)


seen = {"turns": []}
answer = turn(0)
number = 0
while True:
    seen["turns"].append({key: answer[key] for key in ("turn_id", "status", "message", "ended", "ended_reason")})
    if answer["ended"]:
        break
    if number == 0:
        ask("chat", {"metadata": {"stage": "greeting"}})
        call = {"id": "c1", "name": "look_up", "arguments": {"day": "Tuesday"}}
        seen["function"] = ask("chat", {"role": "Function Call", "data": call})[0]
        ask("chat", {"role": "Function Call Result", "data": {"id": "c1", "result": "free at eleven"}})
    text = f"Answer {number + 1}: Tuesday at eleven is free." if answer["message"] or number == 0 else "Hello?"
    status, posted = ask("chat", {"content": text})
    seen.setdefault("accepted", []).append([status, posted["turn_id"], posted["status"]])
    number = posted["turn_id"]
    if HANG_UP:
        seen["hung_up"] = ask("end-chat", {"reason": "enough"})[0]
        break
    answer = turn(number)
seen["late"] = until(lambda: (lambda status: status if status == 409 else None)(ask("chat", {"content": "too late"})[0]))
print(json.dumps(seen))
