//! Pages of other origins through our own door: Pipecat's JavaScript client (`@pipecat-ai/client-js` 1.13.1) in Chromium, and what a browser is answered.

use std::path::Path;

use reqwest::Method;
use serde_json::json;

use super::common::pipecat::{PipecatBot, client_told, javascript_client};
use super::common::tone::{tone_file, tone_seconds};
use super::common::{events, path, wav};
use super::door::{AGENT_DBFS, finished, serve, tone_agent};
use super::{RATE, TONE_DBFS};

#[test]
fn pipecats_javascript_client_starts_a_session_and_calls_any_agent() {
    let folder = tempfile::tempdir().expect("a folder");
    let (token, config) = (folder.path().join("token"), folder.path().join("trunkline.toml"));
    std::fs::write(&token, "let-me-in").expect("a file");
    std::fs::write(&config, format!("[doors.pipecat-webrtc]\ntoken_file = \"{}\"\n", token.display())).expect("a file");
    let (out, microphone) = (folder.path().join("out"), folder.path().join("voice.wav"));
    tone_file(&microphone, 700.0, 20.0, TONE_DBFS);
    let (_serve, door) = serve(&tone_agent(500), &out, &["--config", path(&config)]);
    let endpoint = format!("http://{door}/start");
    let start = |token: &str| {
        let data = json!({"enableDefaultIceServers": true, "body": {"run_id": 78}});
        json!({"kind": "webrtc", "start": {"endpoint": endpoint, "headers": {"Authorization": format!("Bearer {token}")}, "requestData": data}})
    };
    let refused = javascript_client(&start("guessed"), &microphone, "1", &[]);
    assert_eq!(client_told(&refused, "failed").len(), 1, "the page reads that it is refused: {refused}");
    let told = javascript_client(&start("let-me-in"), &microphone, "2", &[]);
    let hz = told["heard"]["hz"].as_f64().expect("a number");
    assert!((hz - 500.0).abs() < 15.0, "the agent's tone as the page plays it: {told}");
    assert_eq!(client_told(&told, "BotReady")[0]["about"]["library"], "trunkline");
    let folder = finished(&out);
    let call: serde_json::Value = serde_json::from_slice(&std::fs::read(folder.join("call.json")).expect("a file")).expect("JSON");
    assert_eq!((&call["run_id"], &call["end"]["reason"]), (&json!("78"), &json!("hung_up")), "{call}");
    let (caller, agent) = (wav(&folder.join("caller.wav")), wav(&folder.join("agent.wav")));
    let seconds = (tone_seconds(&caller, RATE, 700.0, TONE_DBFS), tone_seconds(&agent, 16_000, 500.0, AGENT_DBFS));
    assert!(seconds.0 > 1.5 && seconds.1 > 1.5, "the microphone and the agent: {seconds:?}");
}

/// A microphone plays its file over and over: between the words there are three seconds in which it is answered.
fn says_again_and_again(speech: &Path, microphone: &Path) {
    let specification = hound::WavReader::open(speech).expect("a file").spec();
    let mut writer = hound::WavWriter::create(microphone, specification).expect("a file");
    let silence = vec![0; 3 * specification.sample_rate as usize];
    for sample in wav(speech).into_iter().chain(silence) {
        writer.write_sample(sample).expect("it is written");
    }
    writer.finalize().expect("it is written");
}

#[test]
fn what_a_bot_behind_the_door_tells_reaches_the_javascript_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let (out, microphone) = (folder.path().join("out"), folder.path().join("voice.wav"));
    let bot = PipecatBot::start(&["scripted", "--function", "told"]);
    let (_serve, door) = serve(&format!("pipecat+http://{}/api/offer", bot.host()), &out, &[]);
    let call = json!({"kind": "webrtc", "connect": {"webrtcRequestParams": {"endpoint": format!("http://{door}/api/offer")}}});
    says_again_and_again(&Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/speech/caller-book.wav"), &microphone);
    let stopped = "told.some(({told}) => told === \"BotStoppedSpeaking\")";
    let ask = "client().sendClientRequest(\"order\", {n: 1}).then((data) => told.push({told: \"answer\", data}))";
    let told = javascript_client(&call, &microphone, "0.3", &[stopped, ask]);
    for what in
        ["UserStartedSpeaking", "UserStoppedSpeaking", "UserTranscript", "LLMFunctionCallInProgress", "LLMFunctionCallStopped"]
    {
        assert!(!client_told(&told, what).is_empty(), "{what}: {told:#}");
    }
    assert_eq!(client_told(&told, "BotReady").len(), 1, "ours, and not the bot's: {told:#}");
    let words: Vec<_> = client_told(&told, "BotOutput").into_iter().map(|spoken| &spoken["text"]).collect();
    assert!(words.contains(&&json!("Of course.")), "{words:?}");
    assert_eq!(client_told(&told, "answer"), [&json!({"heard": {"n": 1}})]);
    let asked = bot.told("heard");
    assert_eq!(asked["client_messages"], json!([{"t": "order", "d": {"n": 1}}]), "{asked}");
    assert!(events(&finished(&out)).iter().any(|event| event["event"] == "function_call"));
}

/// What a page of `origin` is answered: the status, and to whom the browser may show it.
fn answered(door: &str, method: Method, path: &str, headers: &[(&str, &str)]) -> (u16, Option<String>, String) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    trunkline::transport::tls::install_crypto();
    runtime.block_on(async {
        let http = reqwest::Client::builder().tls_certs_only([]).no_proxy().build().expect("a client");
        let mut request = http.request(method, format!("http://{door}{path}"));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await.expect("an answer");
        let shown = answer.headers().get("access-control-allow-origin").map(|value| value.to_str().expect("text").to_owned());
        (answer.status().as_u16(), shown, answer.text().await.expect("a body"))
    })
}

#[test]
fn strangers_pages_may_not_call_a_door_without_a_token() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_serve, door) = serve("process:cat", folder.path(), &[]);
    let json = ("content-type", "application/json");
    for origin in ["http://localhost:5173", "https://127.0.0.1", "http://[::1]:3000"] {
        let asks =
            [("origin", origin), ("access-control-request-method", "POST"), ("access-control-request-headers", "content-type")];
        let (status, shown, _) = answered(&door, Method::OPTIONS, "/api/offer", &asks);
        assert_eq!((status, shown.as_deref()), (200, Some(origin)));
        let (status, shown, said) = answered(&door, Method::POST, "/start", &[("origin", origin), json]);
        assert_eq!((status, shown.as_deref()), (200, Some(origin)), "a body is not asked for: {said}");
    }
    for origin in
        ["https://example.com", "http://localhost.example.com", "http://127.0.0.1.example.com", "null", "http://192.168.0.2"]
    {
        let (_, shown, _) =
            answered(&door, Method::OPTIONS, "/api/offer", &[("origin", origin), ("access-control-request-method", "POST")]);
        assert_eq!(shown, None, "{origin}");
        let (status, shown, said) = answered(&door, Method::POST, "/start", &[("origin", origin), json]);
        assert_eq!((status, shown), (403, None));
        let problem = format!("pages of {origin} may not call: without credentials the door takes those of this machine");
        assert!(said.contains(&problem), "{said}");
    }
    // Behind a proxy the door's own page has another name.
    let (status, _, said) =
        answered(&door, Method::POST, "/start", &[("origin", "https://agent.example.com"), ("host", "agent.example.com")]);
    assert_eq!(status, 200, "{said}");
}
