//! What each dialect's messages mean, and that nothing makes a parser panic.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;
use serde_json::{Map, Value, json};
use tokio_tungstenite::tungstenite::Message;
use trunkline::audio::Rate;
use trunkline::transport::WayOut;
use trunkline::transport::telephony_ws::{
    BadMessage, CallDetails, Format, Incoming, Outgoing, Provider, Received, Role, TelephonyAddress,
};
use uuid::Uuid;

use super::{assert_alike, audio_of, fixture, read, shown, tone, understood, usual};

/// The form of the audio in the fixtures.
pub fn fixture_format(provider: Provider) -> Format {
    match provider {
        Provider::Telnyx => Format::PCMA,
        Provider::Exotel => Format::l16(Rate::HZ_16000),
        Provider::Vonage => Format::l16(Rate::HZ_8000),
        _ => Format::PCMU,
    }
}

/// A call, as we tell of it.
pub fn call() -> CallDetails {
    let mut parameters = Map::new();
    parameters.insert("run_id".to_owned(), "77".into());
    parameters.insert("scenario_id".to_owned(), "5".into());
    CallDetails { stream: Uuid::from_u128(1), call: Uuid::from_u128(2), began_ms: 1_764_158_400_000, parameters }
}

#[test]
fn a_providers_documented_messages_are_read() {
    for provider in Provider::ALL {
        let mut bot = usual(provider, Role::Bot);
        let told = understood(&mut *bot, &fixture(provider, "from-provider.json"));
        let format = fixture_format(provider);
        assert_eq!(bot.format(), format, "{provider:?}");
        let Some(Incoming::Start(start)) = told.iter().find(|told| matches!(told, Incoming::Start(_))) else { panic!("{told:?}") };
        assert_eq!(start.ids, [Some("77".to_owned()), None, Some("5".to_owned())], "{provider:?}");
        assert!(start.told.to_string().contains("acme"), "all that was said is kept: {}", start.told);
        let heard = audio_of(&told);
        assert_alike(format, &heard, &tone(format.rate.hz(), 0, heard.len()));
        assert_eq!(heard.len(), format.rate.frame_len() * 2, "{provider:?}");
        assert!(told.contains(&Incoming::Dtmf('1')), "{provider:?}: {told:?}");
        if provider != Provider::Genesys {
            assert!(told.contains(&Incoming::Played("my label".to_owned())), "{provider:?}: {told:?}");
        }
        let stops = told.iter().any(|told| matches!(told, Incoming::Stop(_)));
        assert_eq!(stops, !matches!(provider, Provider::Plivo | Provider::Vonage), "{provider:?}: they close without a word");
    }
}

#[test]
fn an_audio_hook_is_opened_answered_and_closed_by_the_numbers() {
    let mut bot = usual(Provider::Genesys, Role::Bot);
    let told = understood(&mut *bot, &fixture(Provider::Genesys, "from-provider.json"));
    let answers: Vec<Value> = told
        .iter()
        .filter_map(|told| match told {
            Incoming::Answer(message) => Some(shown(message)),
            _ => None,
        })
        .collect();
    let kinds: Vec<_> = answers.iter().map(|answer| (&answer["type"], &answer["seq"], &answer["clientseq"])).collect();
    let expected =
        [(json!("opened"), json!(1), json!(1)), (json!("pong"), json!(2), json!(2)), (json!("closed"), json!(3), json!(5))];
    assert_eq!(kinds, expected.iter().map(|(kind, seq, theirs)| (kind, seq, theirs)).collect::<Vec<_>>());
    assert_eq!(
        answers[0]["parameters"]["media"],
        json!([{"type": "audio", "format": "PCMU", "channels": ["external"], "rate": 8000}])
    );
}

#[test]
fn what_we_say_as_the_provider_is_understood_by_us_as_the_bot_and_back() {
    for provider in Provider::ALL {
        for format in provider.formats() {
            let (mut caller, mut bot) = (provider.dialect(Role::Provider, *format), usual(provider, Role::Bot));
            let (mut messages, mut told) = (Vec::new(), Vec::new());
            caller.write(Outgoing::Begin(&call()), &mut messages);
            let sent = tone(format.rate.hz(), 0, format.rate.frame_len());
            carry(&mut messages, &mut *bot, &mut told);
            let opened = told.iter().find_map(|told| match told {
                Incoming::Answer(answer) => Some(answer.clone()),
                _ => None,
            });
            let mut said = Vec::new();
            opened.into_iter().for_each(|opened| read(&mut *caller, &opened, &mut said).expect("it is opened"));
            for outgoing in [Outgoing::Audio(&sent), Outgoing::Dtmf('#'), Outgoing::Played(r#"{"mark":"m1"}"#)] {
                caller.write(outgoing, &mut messages);
            }
            carry(&mut messages, &mut *bot, &mut told);
            let Some(Incoming::Start(start)) = told.iter().find(|told| matches!(told, Incoming::Start(_))) else {
                panic!("{told:?}")
            };
            assert_eq!(start.ids, [Some("77".to_owned()), None, Some("5".to_owned())], "{provider:?}");
            assert_alike(*format, &audio_of(&told), &sent);
            assert!(told.contains(&Incoming::Dtmf('#')), "{provider:?}: {told:?}");

            for outgoing in [Outgoing::Audio(&sent), Outgoing::Mark("m1"), Outgoing::Clear] {
                bot.write(outgoing, &mut messages);
            }
            let mut told = Vec::new();
            carry(&mut messages, &mut *caller, &mut told);
            assert_alike(*format, &audio_of(&told), &sent);
            assert!(told.contains(&Incoming::Clear), "{provider:?}: {told:?}");
            let marks = told.iter().filter(|told| matches!(told, Incoming::Mark(name) if name.contains("m1"))).count();
            assert_eq!(marks, usize::from(provider != Provider::Genesys), "{provider:?}: {told:?}");

            caller.write(Outgoing::Stop, &mut messages);
            let mut told = Vec::new();
            carry(&mut messages, &mut *bot, &mut told);
            let stops = told.iter().any(|told| matches!(told, Incoming::Stop(_)));
            assert_eq!(stops, !matches!(provider, Provider::Plivo | Provider::Vonage), "{provider:?}: they close without a word");
        }
    }
}

/// The numbers of a stream's messages of sound as they come, and what is made of them: each message's sound is its number, `-n` stands for n
/// messages that are missing.
#[test]
fn telnyx_sound_that_comes_out_of_order_is_put_in_order() {
    let cases: [(&[u64], &[i64]); 9] = [
        (&[7, 8, 9], &[7, 8, 9]),
        (&[1, 3, 2, 4], &[1, 2, 3, 4]),
        (&[1, 5, 4, 3, 2, 6], &[1, 2, 3, 4, 5, 6]),
        (&[1, 2, 2, 3, 1, 4], &[1, 2, 3, 4]),
        // The third never comes, or too late.
        (&[1, 2, 4, 5, 6, 7, 8, 9, 3, 10], &[1, 2, -1, 4, 5, 6, 7, 8, 9, 10]),
        (&[1, 4, 6, 7, 8, 9, 10], &[1, -2, 4, -1, 6, 7, 8, 9, 10]),
        (&[u64::MAX - 1, u64::MAX], &[614, 615]),
        // The provider counts anew.
        (&[900, 901, 1, 2], &[900, 901, 1, 2]),
        (&[1, 1_000_000, 1_000_001, 1_000_002, 1_000_003, 1_000_004], &[1, 1_000_000, 1_000_001, 1_000_002, 1_000_003, 1_000_004]),
    ];
    let fixture = fixture(Provider::Telnyx, "from-provider.json");
    let of = |event: &str| fixture.iter().find(|message| message["event"] == event).expect("a message").clone();
    for (came, expected) in cases {
        let mut bot = usual(Provider::Telnyx, Role::Bot);
        let mut messages = vec![of("start")];
        for number in came {
            let mut media = of("media");
            media["media"]["chunk"] = number.to_string().into();
            // As many samples as the number says, up to a thousand.
            media["media"]["payload"] = STANDARD.encode(vec![0x55; (*number % 1000) as usize + 1]).into();
            messages.push(media);
        }
        messages.push(of("stop"));
        let told = understood(&mut *bot, &messages);
        assert!(matches!(told.last(), Some(Incoming::Stop(_))), "what is held comes before the end: {told:?}");
        let made: Vec<i64> = told
            .iter()
            .filter_map(|told| match told {
                Incoming::Audio(samples) => Some(samples.len() as i64 - 1),
                Incoming::Missing { messages, .. } => Some(-(*messages as i64)),
                _ => None,
            })
            .collect();
        let expected: Vec<i64> = expected.iter().map(|number| if *number < 0 { *number } else { number % 1000 }).collect();
        assert_eq!(made, expected, "{came:?}");
    }
    // Where the stream carries what the bot says too, nothing is waited for.
    let mut bot = usual(Provider::Telnyx, Role::Bot);
    let mut both = of("media");
    both["media"]["track"] = "outbound".into();
    let mut later = of("media");
    later["media"]["chunk"] = "9".into();
    let told = understood(&mut *bot, &[of("start"), of("media"), both, later]);
    assert_eq!(told.iter().filter(|told| matches!(told, Incoming::Audio(_))).count(), 2, "{told:?}");
}

#[test]
fn a_bot_behind_plivo_has_keys_pressed_and_need_not_name_the_stream() {
    let (mut provider, mut bot) = (usual(Provider::Plivo, Role::Provider), usual(Provider::Plivo, Role::Bot));
    let mut messages = Vec::new();
    provider.write(Outgoing::Begin(&call()), &mut messages);
    carry(&mut messages, &mut *bot, &mut Vec::new());
    let sound = fixture(Provider::Plivo, "from-bot.json").into_iter().find(|message| message["event"] == "playAudio");
    let mut sound = sound.expect("sound");
    sound.as_object_mut().expect("an object").remove("streamId");
    let told = understood(&mut *provider, &[json!({"event": "sendDTMF", "dtmf": "1#"}), sound]);
    assert_eq!(told[..2], [Incoming::Dtmf('1'), Incoming::Dtmf('#')]);
    assert!(matches!(&told[2..], [Incoming::Audio(_)]), "{told:?}");
    for wrong in
        [json!({"event": "sendDTMF"}), json!({"event": "sendDTMF", "dtmf": "1x"}), json!({"event": "sendDTMF", "dtmf": ""})]
    {
        let problem = read(&mut *provider, &Message::text(wrong.to_string()), &mut Vec::new());
        assert_eq!(problem, Err(BadMessage::Field("dtmf", "keypad digit")), "{wrong}");
    }
    bot.write(Outgoing::Dtmf('5'), &mut messages);
    let said = shown(&messages[0]);
    assert_eq!((&said["event"], &said["dtmf"]), (&json!("sendDTMF"), &json!("5")));
    assert!(bot.presses_keys() && !usual(Provider::Twilio, Role::Bot).presses_keys());
}

/// One side's messages reach the other.
fn carry(messages: &mut Vec<Message>, to: &mut dyn trunkline::transport::telephony_ws::Dialect, told: &mut Vec<Incoming>) {
    for message in messages.drain(..) {
        read(to, &message, told).unwrap_or_else(|problem| panic!("{problem}: {message}"));
    }
}

#[test]
fn an_address_is_spelled_as_it_is_read() {
    let addresses =
        ["twilio+ws://127.0.0.1:7860/ws", "telnyx+wss://bots.example/ws#PCMA", "exotel+ws://h/#L16@24000", "vonage+ws://h/"];
    for address in addresses {
        assert_eq!(address.parse::<WayOut>().expect("a way out").to_string(), address);
    }
    let usual: WayOut = "telnyx+ws://h/#PCMU".parse().expect("a way out");
    assert_eq!(usual.to_string(), "telnyx+ws://h/");
    let refused = [
        ("twilio+ws://me:secret@h/", "credentials do not belong into an address"),
        ("twilio+ws://h/#PCMA", "twilio carries #PCMU, not #PCMA"),
        ("exotel+ws://h/#L16@44100", "exotel carries #L16@8000, #L16@16000, #L16@24000, not #L16@44100"),
        ("twilo+ws://h/", "use chirp://"),
        ("twilio+http://h/", "use chirp://"),
    ];
    for (address, expected) in refused {
        let error = address.parse::<WayOut>().expect_err(address).to_string();
        assert!(error.contains(expected) && !error.contains("secret"), "{address}: {error}");
    }
    let _: fn(TelephonyAddress) -> WayOut = WayOut::Telephony;
}

#[test]
fn every_message_that_is_cut_is_refused_and_the_stream_goes_on() {
    for provider in Provider::ALL {
        for (role, file) in [(Role::Bot, "from-provider.json"), (Role::Provider, "from-bot.json")] {
            for message in fixture(provider, file).iter().filter(|message| message["binary"].is_null()) {
                let text = message.to_string();
                for cut in (0..text.len()).filter(|cut| text.is_char_boundary(*cut)) {
                    let (mut dialect, mut told) = (usual(provider, role), Vec::new());
                    let refused = dialect.read(Received::Text(&text[..cut]), &mut told);
                    assert!(matches!(refused, Err(BadMessage::NotJson(_))), "{text}, cut at {cut}: {refused:?}");
                    assert_eq!(told, []);
                }
            }
        }
    }
}

/// JSON of the words that the dialects know, in any order and of any kind.
fn any_json() -> impl Strategy<Value = Value> {
    let words = "event|start|media|stop|mark|clear|dtmf|payload|streamSid|stream_id|streamId|stream_sid|name|digit|type|version|2|seq|id|open|\
                 opened|parameters|action|notify|websocket:connected|content-type|audio/l16;rate=8000|[a-z]{0,4}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        words.prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 40, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::hash_map(words, inner, 0..6).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_message_makes_a_parser_panic(
        messages in proptest::collection::vec(any_json(), 1..8),
        text in ".{0,60}",
        bytes in proptest::collection::vec(any::<u8>(), 0..64),
        fixtures in proptest::collection::vec(0_usize..8, 0..6),
    ) {
        for provider in Provider::ALL {
            for (role, file) in [(Role::Bot, "from-provider.json"), (Role::Provider, "from-bot.json")] {
                let (known, mut dialect, mut told) = (fixture(provider, file), usual(provider, role), Vec::new());
                let mut all: Vec<Message> = fixtures.iter().filter_map(|at| known.get(*at)).map(super::wire).collect();
                all.extend(messages.iter().map(|message| Message::text(message.to_string())));
                all.extend([Message::text(text.clone()), Message::binary(bytes.clone())]);
                for message in &all {
                    // Whether it is taken or refused: it is one of the two.
                    let refused = read(&mut *dialect, message, &mut told).err();
                    prop_assert!(refused.is_none_or(|problem| !problem.to_string().is_empty() && !problem.code().is_empty()));
                }
            }
        }
    }
}
