"""A stand-in for Cekura's observability endpoint. Reads multipart forms with Python's own MIME parser, not with Trunkline's code.

Its first line on stdout is {"port": N}. Each request prints a JSON line of what was in it. --answers says what the requests get in turn
(a status, or `close` for a connection that breaks off after the upload); the last one goes for all further ones.
"""

import argparse
import email.parser
import email.policy
import hashlib
import io
import json
import wave
from http.server import BaseHTTPRequestHandler, HTTPServer

parser = argparse.ArgumentParser()
parser.add_argument("--answers", default="201")
answers = parser.parse_args().answers.split(",")
calls = {}


class Handler(BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        kind = self.headers["Content-Type"]
        head = f"Content-Type: {kind}\r\n\r\n".encode()
        message = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
        seen = {"path": self.path, "key": self.headers["X-CEKURA-API-KEY"], "kind": message.get_content_type(), "fields": {}, "files": {}}
        for part in message.iter_parts():
            name = part.get_param("name", header="content-disposition")
            content = part.get_payload(decode=True)
            if part.get_filename() is None:
                assert name not in seen["fields"], f"{name} is there twice"
                seen["fields"][name] = content.decode("utf-8")
                continue
            seen["files"][name] = file = {"name": part.get_filename(), "type": part.get_content_type(), "bytes": len(content)}
            file["sha256"] = hashlib.sha256(content).hexdigest()
            with wave.open(io.BytesIO(content)) as wav:
                file["wav"] = [wav.getnchannels(), wav.getframerate(), wav.getnframes()]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        print(json.dumps(seen), flush=True)
        if answer == "close":
            self.close_connection = True
            return
        status = int(answer)
        call_id = seen["fields"].get("call_id")
        reply = {"detail": "not now"}
        if status == 201:
            reply = {"id": calls.setdefault(call_id, len(calls) + 1), "call_id": call_id, "status": None}
        elif status == 400:
            reply = {"call_id": ["This field is required."]}
        text = json.dumps(reply).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)


server = HTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"port": server.server_port}), flush=True)
server.serve_forever()
