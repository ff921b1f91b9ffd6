//! Whatever takes a secret, at the loudest logging: no log, report, error, ledger or recording holds one, in no usual encoding.
//! A new secret belongs into [`PLANTED`], with a step that uses it.

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use common::api::{Api, ok, page, response};
use common::livekit::LiveKitServer;
use common::{Running, path, python_agent, python_caller, read_http, trunkline, until};
use serde_json::{Value, json};

const API_KEY: &str = "k3y/of+the=api~planted";
const LIVEKIT_SECRET: &str = "l1vekit/secret+planted==";
/// The user's part of credentials is no secret: only what comes after the colon is looked for.
const DOOR: &str = "d00r:p@ss/w0rd+planted";
const AGENT: &str = "ag3nt:p@ss/w0rd+planted";
const WRONG: &str = "ag3nt:wr0ng/w0rd+planted";
const HEADER: &str = "h3ader/of+the=websocket planted";
const PIPECAT: &str = "p1pecat/token+planted=";
const PROXY: &str = "pr0xy+planted";
const QUERY: &str = "qu3ry/token+planted=";
const CHAT: &str = "ch4t/secret+planted=";
const CHAT_DOOR: &str = "ch4t/door+planted=";
const OPENAI: &str = "sk-0penai/planted+key";
const HOOK: &str = "h00k/secret+planted";
const USERINFO: &str = "us3rinfo-planted";
const PLANTED: [&str; 14] =
    [USERINFO, API_KEY, LIVEKIT_SECRET, DOOR, AGENT, WRONG, HEADER, PIPECAT, PROXY, QUERY, CHAT, CHAT_DOOR, OPENAI, HOOK];

/// What was printed, and the folder that everything was written to.
struct Watch {
    folder: tempfile::TempDir,
    printed: Vec<(String, Vec<u8>)>,
    /// Files of the user's own, in which secrets lie by design.
    own: BTreeSet<PathBuf>,
    /// Secrets that were made on the way: tokens.
    made: Vec<String>,
}

impl Watch {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { folder, printed: Vec::new(), own: BTreeSet::new(), made: Vec::new() }
    }

    fn own(&mut self, name: &str, text: &str) -> PathBuf {
        let file = self.folder.path().join(name);
        fs::write(&file, text).unwrap();
        self.own.insert(file.clone());
        file
    }

    /// Trunkline as loud as it gets.
    fn command(&self, url: &str, arguments: &[&str]) -> Command {
        let mut command = trunkline(&[&["-vvv"], arguments].concat());
        command.current_dir(self.folder.path()).env("RUST_LOG", "trace").env("RUST_BACKTRACE", "full").stdin(Stdio::null());
        command.env("CEKURA_API_URL", url).env("CEKURA_API_KEY", API_KEY).env("LIVEKIT_API_KEY", "devkey");
        command.env("LIVEKIT_API_SECRET", LIVEKIT_SECRET).env("TRUNKLINE_LEDGER", self.folder.path().join("ledger.sqlite"));
        command.env("TRUNKLINE_CHAT_SECRET", CHAT).env("TRUNKLINE_DOOR_SECRET", CHAT_DOOR).env("OPENAI_API_KEY", OPENAI);
        command
            .env("TRUNKLINE_WEBHOOK_SECRET", HOOK)
            .env("TRUNKLINE_DOOR_CREDENTIALS", DOOR)
            .env("TRUNKLINE_AGENT_CREDENTIALS", AGENT)
            .env("TRUNKLINE_OUT", "out");
        command
    }

    fn run(&mut self, url: &str, arguments: &[&str]) -> (i32, String) {
        let command = self.command(url, arguments);
        self.watch(command)
    }

    fn watch(&mut self, mut command: Command) -> (i32, String) {
        let shown = format!("{:?}", command.get_args().collect::<Vec<_>>());
        let output = command.output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&said).into_owned();
        self.printed.push((shown, said));
        (output.status.code().unwrap(), text)
    }

    /// A process of ours that goes on: its output goes into a file.
    fn background(&mut self, name: &str, arguments: &[&str]) -> (Running, String) {
        let log = self.folder.path().join(format!("{name}.log"));
        let running = Running::logging_to(self.command("http://127.0.0.1:1", arguments), &log);
        let address = running.wait_for("the address", |line| {
            let line = Some(line).filter(|line| line.starts_with("listening ch") || line.starts_with("sandbox "))?;
            line.split(' ').find(|word| word.contains("127.0.0.1")).map(str::to_owned)
        });
        (running, address)
    }

    /// Everything that was kept, by its name.
    fn kept(&self) -> Vec<(String, Vec<u8>)> {
        let mut kept = self.printed.clone();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
                if entry.is_dir() {
                    folders.push(entry);
                } else if !self.own.contains(&entry) {
                    kept.push((entry.display().to_string(), fs::read(entry).unwrap()));
                }
            }
        }
        kept
    }

    fn assert_clean(&self) {
        let kept = self.kept();
        for secret in PLANTED.into_iter().chain(self.made.iter().map(String::as_str)) {
            for form in forms(secret) {
                for (name, bytes) in &kept {
                    let found = bytes.windows(form.len()).position(|part| part == form.as_bytes());
                    if let Some(at) = found {
                        let around = &bytes[at.saturating_sub(200)..(at + form.len()).min(bytes.len())];
                        panic!("{name} holds {form:?}: …{}", String::from_utf8_lossy(around));
                    }
                }
            }
        }
    }
}

/// A secret as it may be written: plain, percent-encoded, escaped in JSON, and in base64 at whatever place of a longer text.
fn forms(secret: &str) -> Vec<String> {
    let secret = secret.split_once(':').map_or(secret, |(_, password)| password);
    let percent = |keep: &dyn Fn(u8) -> bool| -> String {
        secret.bytes().map(|byte| if keep(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
    };
    let mut forms = vec![secret.to_owned(), secret.replace('/', "\\/"), percent(&|byte| byte.is_ascii_alphanumeric())];
    forms.push(percent(&|byte| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte)));
    forms.push(url::form_urlencoded::byte_serialize(secret.as_bytes()).collect());
    for engine in [&STANDARD, &URL_SAFE] {
        for before in 0..3 {
            let encoded = engine.encode([&vec![b'x'; before], secret.as_bytes()].concat());
            // What comes before and after changes the ends alone.
            let first = [0, 2, 3][before];
            forms.push(encoded.trim_end_matches('=')[first..encoded.trim_end_matches('=').len() - 2].to_owned());
        }
    }
    forms
}

#[test]
fn the_forms_find_a_secret_wherever_it_stands() {
    for (before, after) in [("", ""), ("u:", ""), ("ab", "c"), ("abc", "defg")] {
        let whole = format!("{before}{API_KEY}{after}");
        for hidden in [
            whole.clone(),
            STANDARD.encode(&whole),
            URL_SAFE.encode(&whole),
            url::form_urlencoded::byte_serialize(whole.as_bytes()).collect(),
        ] {
            assert!(forms(API_KEY).iter().any(|form| hidden.contains(form.as_str())), "{hidden}");
        }
    }
}

/// An API that gives back what it was told, as careless ones do, in errors and in answers. Gives what it was told, too.
fn echoing() -> (String, Arc<Mutex<Vec<String>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let Some((head, body)) = read_http(&mut stream) else { continue };
            let said: Value = serde_json::from_str(&body).unwrap_or(Value::Null);
            let error = json!({"detail": [head.clone(), body.clone()], "errors": {"body": [said]}}).to_string();
            kept.lock().unwrap().extend([head, body]);
            drop(stream.write_all(response("400 Bad Request", "", &error).unwrap().as_bytes()));
        }
    });
    (url, told)
}

/// An API that starts and ends runs.
fn willing() -> Api {
    Api::new(|_, (method, path, _)| {
        let run = json!({"id": 5, "status": "completed", "success": true, "scenario": 1, "scenario_name": "S"});
        let result = json!({"id": 9, "status": "completed", "total_runs_count": 1, "success_runs_count": 1, "runs": {"5": run}});
        match (method.as_str(), path.contains('?')) {
            ("GET", true) => ok(&page(&[result])),
            _ => ok(&result),
        }
    })
}

/// Payloads with a secret each, as files of their user's.
fn payloads(watch: &mut Watch) -> Vec<(&'static str, PathBuf)> {
    let token = watch.folder.path().join("livekit.json");
    watch.own.insert(token.clone());
    let flags = ["--scenario-ids", "1", "--room-url", "wss://lk.example", "--room", "one", "--output", "livekit.json"];
    for mode in ["livekit_chat", "livekit"] {
        let (code, said) = watch.run("http://127.0.0.1:1", &[&["payload", mode], &flags[..]].concat());
        assert_eq!(code, 0, "{said}");
        let body: Value = serde_json::from_slice(&fs::read(&token).unwrap()).unwrap();
        watch.made.push(body["scenarios"][0]["access_token"].as_str().unwrap().to_owned());
    }
    let query: String = url::form_urlencoded::byte_serialize(QUERY.as_bytes()).collect();
    let address = format!("wss://a.example/?plan=7&token={query}");
    let headers = json!({"agent_id": 1, "scenarios": [1], "websocket_url": address, "websocket_headers": {"X-Auth": HEADER}});
    let room = json!({"scenarios": [{"scenario": 1, "pipecat_room_url": "https://r.example", "pipecat_token": PIPECAT}]});
    let (headers, room) = (watch.own("text.json", &headers.to_string()), watch.own("pipecat.json", &room.to_string()));
    vec![("livekit", token), ("text", headers), ("pipecat", room)]
}

#[test]
fn starting_following_and_asking_keep_no_secret_whatever_the_api_answers() {
    let mut watch = Watch::new();
    let payloads = payloads(&mut watch);
    let any_port = watch.own("any-port.toml", "[doors.chat]\nlisten = \"127.0.0.1:0\"\n");
    let (echo, told) = echoing();
    let willing = willing();
    let breaking = Api::new(|_, _| None);
    for (mode, file) in &payloads {
        // A chat's door needs an agent behind it.
        let chats: &[&str] = if *mode == "text" { &["--to", "chat-process:cat", "--config", path(&any_port)] } else { &[] };
        let run = [&["run", mode, "--from-file", path(file), "--wait", "--every-s", "0.05"], chats].concat();
        let (code, said) = watch.run(&willing.url, &run);
        // The run ended at the API, and no chat came through the door.
        assert_eq!(code, if *mode == "text" { 3 } else { 0 }, "{said}");
        let (code, said) = watch.run(&echo, &[&["run", mode, "--from-file", path(file), "--wait"], chats].concat());
        assert!(code == 3 && said.contains("no run was started"), "{said}");
        let (code, said) = watch.run("http://127.0.0.1:1", &["scenarios", &format!("run-{mode}"), "--from-file", path(file)]);
        assert!(code == 3 && said.contains("nothing was sent"), "{said}");
        assert_eq!(watch.run(&echo, &["payload", "check", mode, path(file)]).0, 0);
        // A file that does not fit tells so, and not what is in it.
        let mut body: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
        body["agentt"] = 1.into();
        let broken = watch.own(&format!("{mode}-broken.json"), &body.to_string());
        assert_eq!(watch.run(&echo, &["run", mode, "--from-file", path(&broken)]).0, 2);
    }
    let (code, said) = watch.run(&breaking.url, &["run", "pipecat", "--from-file", path(&payloads[2].1)]);
    assert!(code == 3 && said.contains("not known whether runs were started"), "{said}");
    let asked: [&[&str]; 9] = [
        &["runs", "get", "5"],
        &["runs", "list", "--result-id", "9"],
        &["runs", "recover"],
        &["runs", "end-call", "5"],
        &["results", "list"],
        &["results", "rescore", "9", "--metric-ids", "5"],
        &["results", "rerun", "9", "--yes"],
        &["test-sets", "create-from-run", "--run-id", "5"],
        &["payload", "spec-schema"],
    ];
    for arguments in asked {
        for url in [&echo, &willing.url] {
            let (_, said) = watch.run(url, arguments);
            assert!(!said.contains("Usage:"), "{arguments:?}: {said}");
        }
    }
    let (code, said) = watch.run(&willing.url, &["history", "--format", "json"]);
    assert_eq!(code, 0, "{said}");
    // A proxy's password, an address with one, and a key that no header can hold.
    let start = ["scenarios", "run-text", "--agent-id", "1", "--scenario-ids", "1"];
    let mut command = watch.command("http://api.example", &start);
    command
        .env("HTTP_PROXY", format!("http://user:{PROXY}@127.0.0.1:1"))
        .env("http_proxy", format!("http://user:{PROXY}@127.0.0.1:1"));
    assert_eq!(watch.watch(command).0, 3);
    for url in
        [format!("https://user:{PROXY}@api.example"), format!("ftp://user:{PROXY}@api.example"), format!("https://user:{PROXY}@[x")]
    {
        assert_eq!(watch.run(&url, &["results", "list"]).0, 2, "{url}");
    }
    let mut command = watch.command(&echo, &["results", "list"]);
    command.env("CEKURA_API_KEY", format!("{API_KEY}\u{e9}"));
    assert_eq!(watch.watch(command).0, 2);
    let told = told.lock().unwrap().concat();
    for secret in [API_KEY, HEADER, PIPECAT, watch.made.last().unwrap()] {
        assert!(told.contains(secret), "the API itself gets {secret:?}");
    }
    let ledger = watch.folder.path().join("ledger.sqlite");
    assert!(watch.kept().iter().any(|(name, _)| Path::new(name) == ledger) && watch.kept().len() > 20);
    watch.assert_clean();
}

#[test]
fn doors_agents_and_the_sandbox_keep_no_secret() {
    let mut watch = Watch::new();
    let (_agent, port) = python_agent("burst", &["--seconds", "0.3", "--credentials", AGENT]);
    let agent = format!("chirp://127.0.0.1:{port}/");
    let (mut serve, door) = watch.background("serve", &["serve", "--to", &agent, "--listen", "127.0.0.1:0"]);
    let url = format!("ws://{door}/");
    assert_eq!(python_caller(&url, &["--mode", "hold", "--credentials", WRONG])["refused"], 401);
    let got = python_caller(&url, &["--mode", "hold", "--seconds", "0.5", "--credentials", DOOR]);
    assert!(got["refused"].is_null(), "{got}");
    let out = watch.folder.path().join("out");
    until("the recording", || {
        let calls = fs::read_dir(&out).ok()?.filter_map(Result::ok).map(|entry| entry.path());
        calls.filter(|call| call.join("stereo.wav").exists()).count().checked_sub(1)
    });
    serve.stop();
    let log = fs::read_to_string(watch.folder.path().join("serve.log")).unwrap();
    assert!(log.contains("a call comes in") && log.contains("call over"), "our own lines are there: {log}");
    let calls = fs::read_dir(&out).unwrap().map(|entry| entry.unwrap().path());
    let call = calls.filter(|call| call.join("stereo.wav").exists()).collect::<Vec<_>>().pop().unwrap();
    let (echo, _) = echoing();
    assert_eq!(watch.run(&echo, &["observe", path(&call), "--agent-id", "1", "--yes"]).0, 3);
    // An agent that does not take our credentials, and ones without a colon.
    let (_agent, port) = python_agent("burst", &["--seconds", "0.3", "--credentials", "another:one"]);
    let (code, said) =
        watch.run("http://127.0.0.1:1", &["call", "--to", &format!("chirp://127.0.0.1:{port}/"), "--scenario", "book"]);
    assert!(code == 1 && said.contains("websocket-authentication-failed"), "{said}");
    for (variable, command) in
        [("TRUNKLINE_AGENT_CREDENTIALS", &["call", "--to", &agent][..]), ("TRUNKLINE_DOOR_CREDENTIALS", &["serve", "--to", &agent])]
    {
        let mut command = watch.command("http://127.0.0.1:1", command);
        command.env(variable, AGENT.replace(':', "."));
        assert_eq!(watch.watch(command).0, 2);
    }
    let (mut sandbox, url) = watch.background("sandbox", &["sandbox", "--listen", "127.0.0.1:0", "--data", "sandbox"]);
    assert_eq!(watch.run(&url, &["results", "list"]).0, 0);
    let mut command = watch.command(&url, &["results", "list"]);
    command.env("CEKURA_API_KEY", WRONG);
    assert!(watch.watch(command).1.contains("HTTP 401"));
    // A start with secrets in it, to which the sandbox says no or yes.
    for body in [
        json!({"agent_id": 1, "scenarios": [1], "websocket_url": format!("ws://{door}/"), "websocket_headers": {"X-Auth": HEADER}}),
        json!({"scenarios": [{"scenario": 1, "pipecat_room_url": "https://r.example", "pipecat_token": PIPECAT}]}),
    ] {
        for name in ["run_scenarios_chirp", "run_scenarios_text", "run_scenarios_pipecat"] {
            let mut stream = std::net::TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
            let body = body.to_string();
            let head = format!(
                "POST /test_framework/v1/scenarios/{name}/ HTTP/1.1\r\nHost: a\r\nX-CEKURA-API-KEY: {API_KEY}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            watch.printed.push((format!("the sandbox's answer to {name}"), answer));
        }
    }
    sandbox.stop();
    assert!(watch.kept().len() > 10);
    watch.assert_clean();
}

/// A suite that a chat can play.
fn chat_suite() -> String {
    let line = |id: u32, condition: &str, action: &str, kind: &str| json!({"id": id, "condition": condition, "action": action, "type": kind, "fixed_message": true});
    let conditions = [line(0, "FIRST_MESSAGE", "Hello.", "standard"), line(1, "0", "Bye. <endcall/>", "action_followup")];
    json!({"version": "1", "scenarios": [{"name": "Chat", "type": "conditional_actions", "language": "en",
        "conditional_actions": {"role": "a caller", "conditions": conditions}}]})
    .to_string()
}

#[test]
fn chats_models_and_webhooks_keep_no_secret() {
    let mut watch = Watch::new();
    let query: String = url::form_urlencoded::byte_serialize(QUERY.as_bytes()).collect();
    let (_agent, agent) = common::chat::chat_agent("echo", &["--secret", CHAT]);
    let address = format!("{agent}?token={query}");
    let (mut serve, door) = watch.background("serve", &["serve", "--to", &address, "--chat-listen", "127.0.0.1:0"]);
    assert_eq!(common::chat::chat_caller(&door, &["--header", &format!("X-VOCERA-SECRET={WRONG}")])["refused"], 401);
    let got = common::chat::chat_caller(&door, &["--header", &format!("X-VOCERA-SECRET={CHAT_DOOR}"), "--say", "hello"]);
    assert!(got["frames"].to_string().contains("you said: hello"), "{got}");
    serve.stop();
    // A model's server that repeats what it was told, and an agent that is not there.
    let (echo, told) = echoing();
    let suite = watch.own("chat.json", &chat_suite());
    let gone = format!("chat://127.0.0.1:1/?token={query}");
    for to in [format!("openai:{echo}/v1?model=x"), gone, address] {
        let (code, said) = watch.run(&echo, &["call", "--to", &to, "--suite", path(&suite)]);
        assert_eq!(code, i32::from(!to.starts_with(&agent)), "{to}: {said}");
    }
    assert!(told.lock().unwrap().concat().contains(OPENAI), "the server itself gets the key");
    // Addresses that are refused: with a user in them, and none at all; as a flag, and in a file.
    for to in
        [format!("chat://user:{USERINFO}@h/"), format!("openai:http://h/?model=x&api_key={query}"), format!("ws://h/?t={query}")]
    {
        let file = watch.own("refused.toml", &format!("[agent]\nto = {to:?}\n[sandbox]\nwebhook_url = \"http://h/?t={query}\"\n"));
        for arguments in [&["serve", "--to", &to][..], &["serve", "--config", path(&file)]] {
            let (code, said) = watch.run(&echo, arguments);
            assert!(code == 2 && said.contains("is no way to reach an agent"), "{arguments:?}: {said}");
        }
    }
    let file = watch.own("refused.toml", &format!("[sandbox]\nwebhook_url = \"http://user:{USERINFO}@[x\"\n"));
    let (code, said) = watch.run(&echo, &["sandbox", "--config", path(&file)]);
    assert!(code == 2 && said.contains("line 2") && said.contains("webhook_url"), "{said}");
    // A run in a sandbox whose webhook repeats the secret, with headers and an address that are secret.
    let project = watch.folder.path().join("project");
    fs::create_dir_all(project.join("suites")).unwrap();
    watch.own("project/suites/chat.json", &chat_suite());
    watch.own("project/chat.secret", CHAT);
    watch.own("project/agents.json", &json!([{"id": 1, "chat_secret_file": "chat.secret"}]).to_string());
    let hook = format!("{echo}/hook?token={query}");
    let arguments = ["sandbox", "--listen", "127.0.0.1:0", "--data", "sandbox", "--project", "project", "--webhook-url", &hook];
    let (mut sandbox, url) = watch.background("sandbox", &arguments);
    let target = format!("{}?token={query}", agent.replace("chat://", &format!("ws://user:{USERINFO}@")));
    let payload = json!({"agent_id": 1, "scenarios": [1], "websocket_url": target, "websocket_headers": {"X-Auth": HEADER}});
    let file = watch.own("payload.json", &payload.to_string());
    let (code, said) = watch.run(&url, &["scenarios", "run-text", "--from-file", path(&file)]);
    assert_eq!(code, 0, "{said}");
    until("the run's end and its webhook", || {
        let (_, results) = common::sandbox::http("GET", &url, "/test_framework/v1/results/", Some(API_KEY), None);
        let (status, passed) = (&results["results"][0]["status"], &results["results"][0]["success_runs_count"]);
        let ended = status == "completed" && passed == 1;
        let told = told.lock().unwrap().concat();
        (ended && told.contains("result.completed") && told.contains(HOOK)).then_some(())
    });
    sandbox.stop();
    assert!(watch.kept().iter().any(|(name, _)| name.contains("recordings") && name.ends_with("call.json")));
    watch.assert_clean();
}

/// How every access token of LiveKit's begins: the base64 of its header, whichever of its two members comes first.
const TOKENS: [&str; 2] = ["eyJhbGciOiJIUzI1NiI", "eyJ0eXAiOiJKV1Qi"];

/// A payload of one chat in a room of `server`, and the token in it. The file is its user's own.
fn room_payload(watch: &mut Watch, server: &LiveKitServer, name: &str, more: &[&str], known: bool) -> (PathBuf, String) {
    let file = watch.folder.path().join(name);
    watch.own.insert(file.clone());
    let mut command = watch
        .command("http://127.0.0.1:1", &[&["payload", "livekit_chat", "--scenario-ids", "1", "--output", name], more].concat());
    if known {
        command.envs(server.env());
    }
    let (code, said) = watch.watch(command);
    assert_eq!(code, 0, "{said}");
    let body: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    (file, body["scenarios"][0]["access_token"].as_str().unwrap().to_owned())
}

#[test]
fn rooms_workers_and_their_tokens_keep_no_secret() {
    let mut watch = Watch::new();
    let server = LiveKitServer::start();
    watch.made.push(server.secret().to_owned());
    watch.made.extend(TOKENS.map(str::to_owned));
    let suite = watch.own("chat.json", &chat_suite());
    let (_agent, agent) = common::chat::chat_agent("echo", &["--secret", CHAT]);
    let mut command = watch.command("http://127.0.0.1:1", &["serve", "--to", &agent, "--livekit-agent-name", "door"]);
    command.envs(server.env());
    let mut serve = Running::logging_to(command, &watch.folder.path().join("serve.log"));
    serve.wait_for("the registration", |line| line.starts_with("registered livekit door").then_some(()));
    // A room that is prepared, and its run in a sandbox.
    let (file, token) = room_payload(&mut watch, &server, "rooms.json", &["--prepare", "--agent-name", "door"], true);
    assert!(TOKENS.iter().any(|start| token.starts_with(start)), "tokens begin so: {token}");
    let sandboxed = ["--sandbox", "--suite", path(&suite)];
    let mut command =
        watch.command("http://127.0.0.1:1", &[&["run", "livekit_chat", "--from-file", path(&file)], &sandboxed[..]].concat());
    command.envs(server.env());
    let (code, said) = watch.watch(command);
    assert_eq!(code, 0, "{said}");
    // A room of a call's own; an agent that never comes; keys that the server does not know.
    let slow = watch.own("dial.toml", "[agent]\ndial_s = 1\n");
    let call = |to| ["call", "--config", path(&slow), "--suite", path(&suite), "--to", to];
    let spoken = ["call", "--config", path(&slow), "--scenario", "book", "--to", "livekit://?agent=nobody"];
    for (call, code) in [(&call("livekit-chat://?agent=door")[..], 0), (&call("livekit-chat://?agent=nobody"), 1), (&spoken, 1)] {
        let mut command = watch.command("http://127.0.0.1:1", call);
        command.envs(server.env());
        let (exit, said) = watch.watch(command);
        assert_eq!(exit, code, "{call:?}: {said}");
    }
    let url = server.url();
    let mut command = watch.command("http://127.0.0.1:1", &call("livekit-chat://?agent=door"));
    command.env("LIVEKIT_URL", &url);
    let (code, said) = watch.watch(command);
    assert!(code == 1 && said.contains("does not take LIVEKIT_API_KEY"), "{said}");
    let (file, forged) = room_payload(&mut watch, &server, "forged.json", &["--room", "forged", "--room-url", &url], false);
    watch.made.push(forged);
    let arguments = [&["run", "livekit_chat", "--from-file", path(&file)], &sandboxed[..]].concat();
    let (code, said) = watch.run("http://127.0.0.1:1", &arguments);
    assert!(code == 1 && said.contains("the server does not know this access token"), "{said}");
    let prepare = ["payload", "livekit", "--prepare", "--scenario-ids", "1", "--agent-name", "door"];
    let mut command = watch.command("http://127.0.0.1:1", &prepare);
    command.env("LIVEKIT_URL", &url);
    let (code, said) = watch.watch(command);
    assert!(code == 3 && said.contains("does not take LIVEKIT_API_KEY"), "{said}");
    serve.stop();
    let log = fs::read_to_string(watch.folder.path().join("serve.log")).unwrap();
    assert!(log.contains("a call comes in"), "our own lines are there: {log}");
    assert!(watch.kept().iter().any(|(name, _)| name.contains("out/") && name.ends_with("call.json")));
    watch.assert_clean();
}
