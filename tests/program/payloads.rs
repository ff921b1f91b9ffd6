//! Payloads of every mode: built from flags, checked, rewritten; tokens are made and never shown.

use crate::common;

use std::fs;
use std::io::Write;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Output;

use common::{path, read_http, run, trunkline};
use serde_json::{Value, json};
use trunkline::cekura::Mode;
use trunkline::cekura::payload::{check, detect, fix};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What `payload MODE` makes of these flags.
fn built(mode: &str, flags: &str) -> Value {
    let output = build(mode, flags);
    assert!(output.status.success(), "{mode} {flags}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn build(mode: &str, flags: &str) -> Output {
    let mut arguments = vec!["payload", mode];
    arguments.extend(flags.split_whitespace());
    let mut command = trunkline(&arguments);
    command.env("LIVEKIT_API_KEY", "devkey").env("LIVEKIT_API_SECRET", "a-secret-that-nobody-may-see").output().unwrap()
}

#[test]
fn every_mode_has_its_own_shape() {
    let selected = "--agent-id 7 --scenario-ids 1,2";
    let ids = json!({"agent_id": 7, "scenarios": [1, 2]});
    for mode in ["voice", "text", "chirp", "sip", "vapi_webrtc", "retell_webrtc", "elevenlabs", "api_chat"] {
        assert_eq!(built(mode, selected), ids, "{mode}");
    }
    let with = |more: Value| {
        let mut body = ids.clone();
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    assert_eq!(
        built("sip", &format!("{selected} --sip-endpoint sip:a@b.example")),
        with(json!({"sip_endpoint": "sip:a@b.example"}))
    );
    let url = "wss://a.example/x";
    assert_eq!(
        built("text", &format!("{selected} --websocket-url {url} --header X-Plan=7")),
        with(json!({"websocket_url": url, "websocket_headers": {"X-Plan": "7"}}))
    );
    let folder = tempfile::tempdir().unwrap();
    let secret = folder.path().join("secret");
    fs::write(&secret, "from a file\n").unwrap();
    assert_eq!(
        built("text", &format!("{selected} --header X-Auth=@{}", path(&secret))),
        with(json!({"websocket_headers": {"X-Auth": "from a file"}}))
    );
    for (mode, key) in
        [("vapi_webrtc", "vapi_assistant_id"), ("retell_webrtc", "retell_agent_id"), ("elevenlabs", "elevenlabs_agent_id")]
    {
        assert_eq!(built(mode, &format!("{selected} --provider-agent-id abc")), with(json!({key: "abc"})), "{mode}");
    }
    assert_eq!(built("api_chat", &format!("{selected} --chat-timeout-s 300")), with(json!({"timeout": 300})));
    let entries = json!([{"scenario": 1}, {"scenario": 2}]);
    assert_eq!(
        built("livekit_v2", &format!("{selected} --frequency 3 --agent-name clinic --agent-config {{\"a\":1}}")),
        json!({"agent": 7, "scenarios": entries, "frequency": 3, "livekit_data": {"agent_name": "clinic", "config": {"a": 1}}})
    );
    assert_eq!(
        built("pipecat-v2", &format!("{selected} --agent-name clinic --data-message {{\"a\":1}}")),
        json!({"agent": 7, "scenarios": [{"scenario": 1, "publish_data_message": {"a": 1}}, {"scenario": 2, "publish_data_message": {"a": 1}}],
            "pipecat_data": {"pipecat_agent_name": "clinic"}})
    );
    assert_eq!(
        built("websocket", &format!("{selected} --websocket-url {url}")),
        json!({"agent": 7, "scenarios": [{"scenario": 1, "websocket_url": url}, {"scenario": 2, "websocket_url": url}], "frequency": 1})
    );
    assert_eq!(
        built("pipecat", &format!("{selected} --room-url https://r.example/1 --room-url https://r.example/2")),
        json!({"agent": 7, "scenarios": [
            {"scenario": 1, "pipecat_room_url": "https://r.example/1"}, {"scenario": 2, "pipecat_room_url": "https://r.example/2"}]})
    );
}

#[test]
fn a_flag_that_the_mode_does_not_have_is_a_misfit() {
    for (mode, flags, expected) in [
        ("livekit_v2", "--agent-id 1 --tags a", "$.tags: is not a field of run_scenarios_livekit_v2"),
        ("livekit_v2", "--agent-id 1 --all", "$.scenarios: is a text"),
        ("voice", "--scenario-ids 1 --sip-endpoint x", "$.sip_endpoint: is not a field of run_scenarios"),
        ("text", "--agent-id 1 --all", "$.scenarios: is a text"),
        ("livekit_v2", "--scenario-ids 1 --frequency 101", "$.frequency: is 101, above 100"),
        ("api_chat", "--scenario-ids 1 --chat-timeout-s 4000", "$.timeout: is 4000, above 3600"),
        ("pipecat", "--scenario-ids 1", "$.scenarios[0]: has no pipecat_room_url"),
        (
            "pipecat",
            "--scenario-ids 1,2,3 --room-url https://a/ --room-url https://b/",
            "--room-url is given 2 times for 3 scenarios",
        ),
        ("livekit", "--scenario-ids 1 --room-url wss://a.example", "the tokens need --room"),
        (
            "chirp",
            "--agent-id 1 --scenario-ids 1 --room-url wss://a.example",
            "--room-url belongs to the entries of a room mode: chirp",
        ),
        ("sip", "--agent-id 1 --scenario-ids 1 --data-message {}", "--data-message belongs to the entries of a room mode: sip"),
        (
            "chirp",
            "--agent-id 1 --scenario-ids 1 --identity me",
            "--identity belongs to the tokens of livekit and livekit_chat: chirp",
        ),
        ("pipecat", "--scenario-ids 1 --room-url https://a/ --room r", "--room belongs to the tokens"),
        ("livekit_v2", "--scenario-ids 1 --valid-s 60", "--valid-s belongs to the tokens"),
        ("chirp", "--agent-id 1 --scenario-ids 1 --project-id 3", "--project-id belongs to --folder-path"),
    ] {
        let output = build(mode, flags);
        let said = text(&output.stderr);
        assert!(output.status.code() == Some(2) && said.contains(expected), "{mode} {flags}: {said}");
        assert!(output.stdout.is_empty());
    }
}

/// The claims of a token, checked with Python's own HMAC.
fn claims(token: &str) -> Value {
    const VERIFY: &str = "import base64, hashlib, hmac, sys
head, body, signature = sys.argv[1].split('.')
made = hmac.new(sys.argv[2].encode(), f'{head}.{body}'.encode(), hashlib.sha256).digest()
assert base64.urlsafe_b64encode(made).rstrip(b'=').decode() == signature, 'the signature is wrong'
print(base64.urlsafe_b64decode(body + '=' * (-len(body) % 4)).decode())";
    let output =
        std::process::Command::new("python3").args(["-c", VERIFY, token, "a-secret-that-nobody-may-see"]).output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn livekit_rooms_get_their_tokens_and_the_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    let flags =
        format!("--scenario-ids 1,2 --room-url wss://lk.example --room one --room two --valid-s 600 --output {}", path(&file));
    let output = build("livekit", &flags);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let body: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    for (entry, room) in body["scenarios"].as_array().unwrap().iter().zip(["one", "two"]) {
        let claims = claims(entry["access_token"].as_str().unwrap());
        assert_eq!(
            (&claims["iss"], &claims["video"]["room"], &claims["video"]["roomJoin"]),
            (&"devkey".into(), &room.into(), &true.into())
        );
        assert_eq!(claims["exp"].as_u64().unwrap() - claims["nbf"].as_u64().unwrap(), 600);
    }
    assert!(run(&["payload", "check", "livekit", path(&file)]).status.success());
    let without =
        trunkline(&["payload", "livekit", "--scenario-ids", "1", "--room", "a"]).env_remove("LIVEKIT_API_KEY").output().unwrap();
    assert!(text(&without.stderr).contains("no LIVEKIT_API_KEY"));
}

#[test]
fn an_address_with_a_secret_is_its_owners_alone_and_no_file_beside_it_is_touched() {
    let folder = tempfile::tempdir().unwrap();
    let (file, beside) = (folder.path().join("run.json"), folder.path().join("run.partial"));
    fs::write(&beside, "the user's own").unwrap();
    for (url, mode) in
        [("wss://agent.example/", 0o644), ("wss://agent.example/?token=abcdef", 0o600), ("wss://me:password@agent.example/", 0o600)]
    {
        drop(fs::remove_file(&file));
        let output = build("chirp", &format!("--agent-id 1 --scenario-ids 1 --websocket-url {url} --output {}", path(&file)));
        assert!(output.status.success(), "{}", text(&output.stderr));
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, mode, "{url}");
    }
    assert_eq!(fs::read_to_string(&beside).unwrap(), "the user's own");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing is left over");
}

#[test]
fn a_token_that_opens_no_room_is_told_of_and_not_shown() {
    let encode = |json: Value| {
        use base64::Engine as _;
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(json.to_string())
    };
    let token = |claims: Value| format!("{}.{}.SECRETSIGNATURE", encode(json!({"alg": "HS256"})), encode(claims));
    let grant = json!({"room": "a", "roomJoin": true});
    for (claims, expected) in [
        (json!({"exp": 1_000_000_000, "video": grant}), "expired"),
        (json!({"exp": 99_999_999_999_u64, "video": {"room": "a"}}), "does not let its bearer join a room"),
        (json!({"exp": 99_999_999_999_u64, "video": {"roomJoin": true}}), "names no room"),
        (json!({"video": grant}), "never expires"),
    ] {
        let token = token(claims);
        let body = json!({"scenarios": [{"scenario": 1, "livekit_room_url": "wss://a.example", "access_token": token}]});
        let misfits = check(Mode::Livekit, &body);
        let said = misfits.iter().map(ToString::to_string).collect::<String>();
        assert!(misfits.len() == 1 && said.contains("$.scenarios[0].access_token") && said.contains(expected), "{said}");
        assert!(!said.contains("SECRETSIGNATURE"));
    }
    let body =
        json!({"scenarios": [{"scenario": 1, "livekit_room_url": "wss://a.example", "access_token": "not-a-token-but-secret"}]});
    let said = check(Mode::Livekit, &body).iter().map(ToString::to_string).collect::<String>();
    assert!(said.contains("is no JSON Web Token") && !said.contains("not-a-token-but-secret"), "{said}");
}

#[test]
fn what_the_public_cli_sends_is_recognised_and_rewritten() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    // As `run start --mode livekit` of the package 1.6.7 posts it.
    fs::write(&file, r#"{"agent_id": 5, "frequency": 1, "scenarios": [1, "2"]}"#).unwrap();
    let output = run(&["payload", "check", "livekit_v2", path(&file)]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(said.contains("$.agent_id") && said.contains("expected agent?"), "{said}");
    assert!(said.contains("$.scenarios[0]: is the number 1; expected {\"scenario\": 1}"), "{said}");
    let output = run(&["payload", "check", "--fix", "livekit_v2", path(&file)]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let fixed: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert_eq!(fixed, json!({"agent": 5, "frequency": 1, "scenarios": [{"scenario": 1}, {"scenario": 2}]}));
    // A file that is its owner's alone stays so; stdin is no file.
    fs::write(&file, r#"{"agent_id": 5, "scenarios": [1]}"#).unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    assert!(run(&["payload", "check", "--fix", "livekit_v2", path(&file)]).status.success());
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(text(&run(&["payload", "check", "--fix", "livekit_v2", "-"]).stderr).contains("stdin is none"));
    // The other way round, and an address with the wrong scheme.
    let other = json!({"agent": "5", "scenarios": [{"scenario": 1}], "freq": 2, "websocket_url": "https://a.example/"});
    assert_eq!(
        fix(Mode::Chirp, &other),
        json!({"agent_id": 5, "scenarios": [1], "frequency": 2, "websocket_url": "wss://a.example/"})
    );
    // What is right stays as it is, byte for byte; what cannot be told is not guessed.
    let right = r#"{"agent": 5,  "scenarios": [{"scenario": 1}]}"#;
    fs::write(&file, right).unwrap();
    assert!(run(&["payload", "check", "--fix", "livekit_v2", path(&file)]).status.success());
    assert_eq!(fs::read_to_string(&file).unwrap(), right);
    fs::write(&file, r#"{"agent": 5, "scenarios": [{"scenario": "first"}]}"#).unwrap();
    assert_eq!(run(&["payload", "check", "--fix", "livekit_v2", path(&file)]).status.code(), Some(2));
}

#[test]
fn the_mode_is_found_from_the_file_where_it_can_be() {
    let cases = [
        (json!({"livekit_data": {}}), Some(Mode::LivekitV2)),
        (json!({"pipecat_data": {}}), Some(Mode::PipecatV2)),
        (json!({"sip_endpoint": "sip:a@b"}), Some(Mode::Sip)),
        (json!({"websocket_headers": {}}), Some(Mode::Text)),
        (json!({"scenarios": [{"websocket_url": "wss://a"}]}), Some(Mode::Websocket)),
        (json!({"scenarios": [{"pipecat_room_url": "https://a"}]}), Some(Mode::Pipecat)),
        (json!({"agent": 1, "scenarios": [{"livekit_room_url": "wss://a"}]}), Some(Mode::LivekitChat)),
        (json!({"scenarios": [{"livekit_room_url": "wss://a"}]}), None),
        (json!({"agent_id": 1, "scenarios": [1], "websocket_url": "wss://a"}), None),
        (json!({"agent_id": 1, "scenarios": [1]}), None),
    ];
    for (body, mode) in cases {
        assert_eq!(detect(&body).ok(), mode, "{body}");
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.json");
    fs::write(&file, r#"{"agent_id": 1, "scenarios": [1], "websocket_url": "wss://a.example"}"#).unwrap();
    let said = text(&run(&["payload", "check", path(&file)]).stderr);
    assert!(said.contains("fit several modes: chirp, text") && said.contains("payload check MODE"), "{said}");
    fs::write(&file, r#"{"agent": 1, "scenarios": [{"scenario": 1}], "livekit_data": {"agent_name": "a"}}"#).unwrap();
    assert!(text(&run(&["payload", "check", path(&file)]).stdout).contains("fits livekit_v2"));
}

/// An API that answers a start and then the result, both ended; gives the start's path and body.
fn api(listener: TcpListener) -> std::thread::JoinHandle<(String, Value)> {
    std::thread::spawn(move || {
        let mut start = None;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let (head, body) = read_http(&mut stream).expect("a whole request");
            let run = json!({"id": 5, "status": "completed", "success": true, "scenario": 1, "scenario_name": "S"});
            let (answer, last) = if head.starts_with("POST") {
                start = Some((head.split(' ').nth(1).unwrap().to_owned(), serde_json::from_str(&body).unwrap()));
                (json!({"id": 9, "status": "pending", "runs": [{"id": 5, "status": "pending", "scenario": 1}]}), false)
            } else {
                (json!({"id": 9, "status": "completed", "total_runs_count": 1, "success_runs_count": 1, "runs": {"5": run}}), true)
            };
            let answer = answer.to_string();
            write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{answer}", answer.len()).unwrap();
            if last {
                break;
            }
        }
        start.unwrap()
    })
}

fn run_mode(folder: &Path, mode: &str, body: &Value) -> (Output, String, Value) {
    let file = folder.join("run.json");
    fs::write(&file, body.to_string()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let api = api(listener);
    let out = folder.join("out");
    let output = trunkline(&[
        "-vvv",
        "run",
        mode,
        "--from-file",
        path(&file),
        "--wait",
        "--every-s",
        "0.1",
        "--out",
        path(&out),
        "--format",
        "json",
    ])
    .env("CEKURA_API_URL", &url)
    .env("CEKURA_API_KEY", "key-that-is-not-shown")
    .env("TRUNKLINE_LEDGER", folder.join("ledger.sqlite"))
    .output()
    .unwrap();
    let (called, sent) = api.join().unwrap();
    (output, called, sent)
}

#[test]
fn a_run_of_another_mode_is_started_followed_and_reported_as_the_api_tells() {
    let folder = tempfile::tempdir().unwrap();
    let body = json!({"agent": 7, "scenarios": [{"scenario": 1}], "livekit_data": {"agent_name": "clinic"}});
    let (output, called, sent) = run_mode(folder.path(), "livekit_v2", &body);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(called, "/test_framework/v1/scenarios/run_scenarios_livekit_v2/");
    assert_eq!((&sent["agent"], &sent["scenarios"]), (&body["agent"], &body["scenarios"]));
    assert!(sent["name"].as_str().unwrap().contains(" #"), "its name is unique");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&report["mode"], &report["result_id"], &report["verdict"]), (&"livekit_v2".into(), &9.into(), &"passed".into()));
    assert_eq!((&report["run_ids"], &report["runs"][0]["recording"]), (&json!([5]), &Value::Null));
}

#[test]
fn no_token_or_key_is_in_any_output_artifact_or_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let mut body = built("livekit", "--scenario-ids 1 --room-url wss://lk.example --room one");
    let token = body["scenarios"][0]["access_token"].as_str().unwrap().to_owned();
    let (output, _, sent) = run_mode(folder.path(), "livekit", &body);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert_eq!(sent["scenarios"][0]["access_token"].as_str(), Some(token.as_str()), "Cekura gets it");
    assert_eq!(sent.get("name"), None, "this mode's start takes no name");
    body["scenarios"][0]["access_token"] = Value::Null;
    fs::remove_file(folder.path().join("run.json")).unwrap();
    let mut kept = vec![output.stdout, output.stderr];
    let mut folders = vec![folder.path().to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
            if entry.is_dir() { folders.push(entry) } else { kept.push(fs::read(entry).unwrap()) }
        }
    }
    assert!(kept.len() > 4, "the report and the ledger are looked into");
    for secret in [token.as_str(), "key-that-is-not-shown", "a-secret-that-nobody-may-see"] {
        let found = kept.iter().any(|bytes| bytes.windows(secret.len()).any(|part| part == secret.as_bytes()));
        assert!(!found, "a secret was kept: {}…", &secret[..8]);
    }
}
