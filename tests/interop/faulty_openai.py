"""A server of the chat completions interface that does one thing wrong, over plain sockets; prints its port."""

import argparse
import json
import socket
import threading
import time


def request(connection):
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, body = data.split(b"\r\n\r\n", 1)
    length = int([line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")][0].split(b":")[1])
    while len(body) < length:
        body += connection.recv(65536)
    return head.decode(), json.loads(body)


def whole(status, body, kind="application/json"):
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n{body}".encode()


def chunk(content, finish=None):
    choice = {"index": 0, "delta": {"content": content} if content else {}, "finish_reason": finish}
    return "data: " + json.dumps({"choices": [choice]}) + "\n\n"


def message(content, **more):
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": content, **more}, "finish_reason": "stop"}]})


OPEN = []
STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"


def serve(connection, mode):
    head, body = request(connection)
    key = next((line.split(" ")[-1] for line in head.split("\r\n") if line.lower().startswith("authorization:")), "")
    calls = [{"id": "c1", "type": "function", "function": {"name": "book", "arguments": '{"at": "9:00"}'}}]
    if mode == "500":
        connection.sendall(whole("500 Internal Server Error", json.dumps({"error": {"message": f"boom for {key}"}})))
    elif mode == "html":
        connection.sendall(whole("200 OK", "<html>maintenance</html>", "text/html"))
    elif mode == "cut":
        connection.sendall(STREAM + (chunk("Hel") + chunk("lo th")).encode())
    elif mode == "cut-body":
        connection.sendall(whole("200 OK", message("Hello there"))[:-20])
    elif mode == "slow":
        time.sleep(30)
    elif mode == "error-in-stream":
        connection.sendall(STREAM + (chunk("Hel") + 'data: {"error": {"message": "overloaded"}}\n\n').encode())
    elif mode == "nothing":
        connection.sendall(whole("200 OK", message(None)))
    elif mode == "tools":
        last = body["messages"][-1]
        if any(entry.get("content") == "" for entry in body["messages"]):
            connection.sendall(whole("400 Bad Request", json.dumps({"error": {"message": "an empty message"}})))
            return connection.close()
        said = any(entry.get("tool_calls") for entry in body["messages"])
        connection.sendall(whole("200 OK", message(f"after {json.dumps(last)}") if said else message(None, tool_calls=calls)))
    elif mode == "tools-streamed":
        pieces = [{"index": 0, "id": "c1", "function": {"name": "book", "arguments": ""}},
                  {"index": 0, "function": {"arguments": '{"at": '}},
                  {"index": 0, "id": "c1", "function": {"name": "book", "arguments": '"9:00"}'}}]
        text = "".join("data: " + json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]}) + "\n\n" for piece in pieces)
        # In pieces that break a line and a letter.
        text = (text + chunk("Vergnügen ✔") + chunk(None, "stop") + "data: [DONE]\n\n").encode()
        connection.sendall(STREAM)
        for at in range(0, len(text), 7):
            connection.sendall(text[at : at + 7])
    elif mode == "done-open":
        connection.sendall(STREAM + (chunk("Hello") + chunk(None, "stop") + "data: [DONE]\n\n").encode())
        # The body has no end.
        return OPEN.append(connection)
    elif mode == "empty-first" and len(body["messages"]) == 1:
        connection.sendall(whole("200 OK", message(None)))
    elif mode in ("history", "slow-history", "empty-first"):
        if mode == "slow-history":
            time.sleep(1)
        connection.sendall(whole("200 OK", message(json.dumps([key, body["model"], body["stream"], body["messages"]]))))
    connection.close()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("mode")
    args = parser.parse_args()
    server = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"port": server.getsockname()[1]}), flush=True)
    while True:
        connection, _ = server.accept()
        threading.Thread(target=serve, args=(connection, args.mode), daemon=True).start()


main()
