//! A stand-in for Cekura's API, in the test's own process: records each request and answers as it is told.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use super::{read_http, trunkline};

/// A request: method, path with query, body.
pub type Asked = (String, String, Value);

/// A response, or none: the connection is closed.
pub type Fault = fn() -> Option<String>;

/// An API on loopback.
pub struct Api {
    pub url: String,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Api {
    /// Answers each request with what `answer` gives: the whole response, or nothing at all and a closed connection.
    /// One request that waits for its answer does not keep others waiting.
    pub fn new(answer: impl Fn(usize, &Asked) -> Option<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (kept, answer) = (Arc::clone(&asked), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (mut stream, kept, answer) = (stream.unwrap(), Arc::clone(&kept), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let Some(request) = read(&mut stream) else { return };
                    let number = {
                        let mut kept = kept.lock().unwrap();
                        kept.push(request.clone());
                        kept.len()
                    };
                    if let Some(response) = answer(number, &request) {
                        // A client that has gone away is its own business.
                        drop(stream.write_all(response.as_bytes()));
                    }
                });
            }
        });
        Self { url, asked }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// The requests that may start something, by path with query.
    pub fn posts(&self) -> Vec<(String, Value)> {
        self.asked().into_iter().filter(|(method, ..)| method == "POST").map(|(_, path, body)| (path, body)).collect()
    }

    /// Trunkline against it, with a ledger in `folder`.
    pub fn command(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = trunkline(arguments);
        command.env("CEKURA_API_URL", &self.url).env("CEKURA_API_KEY", "any").env("TRUNKLINE_LEDGER", folder.join("ledger.sqlite"));
        command
    }

    /// Runs Trunkline against it: exit code, stdout, stderr.
    pub fn run(&self, folder: &Path, arguments: &[&str]) -> (i32, String, String) {
        let output = self.command(folder, arguments).stdin(Stdio::null()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }
}

fn read(stream: &mut TcpStream) -> Option<Asked> {
    let (head, body) = read_http(stream)?;
    let mut words = head.split(' ');
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    Some((method, path, serde_json::from_str(&body).unwrap_or(Value::Null)))
}

pub fn response(status: &str, more: &str, body: &str) -> Option<String> {
    Some(format!("HTTP/1.1 {status}\r\n{more}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len()))
}

pub fn ok(body: &Value) -> Option<String> {
    response("200 OK", "Content-Type: application/json\r\n", &body.to_string())
}

/// The name that a request for the results' list looks for.
pub fn searched(path: &str) -> Option<String> {
    let query = path.split_once('?')?.1;
    url::form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == "search").map(|(_, name)| name.into_owned())
}

/// A page of a list.
pub fn page(rows: &[Value]) -> Value {
    json!({"count": rows.len(), "next": null, "previous": null, "results": rows})
}
