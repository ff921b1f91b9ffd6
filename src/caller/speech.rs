//! Speech for the caller's and the built-in agent's texts: ready WAVs, or a command of the user's.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::process::Command;

use crate::audio::{Rate, WavError, read_wav, trim};

/// What is below this (-50 dBFS) at either end of a recording is not speech: a line begins and ends with its words.
const SILENCE: u16 = 104;
/// How long the command may take for one text.
const COMMAND_TIME: Duration = Duration::from_secs(60);

/// The shipped recordings: which text is in which file, and the files.
const INDEX: &str = include_str!("../../fixtures/speech/index.json");
macro_rules! shipped {
    ($($file:literal),* $(,)?) => {
        const SHIPPED: &[(&str, &[u8])] = &[$(($file, include_bytes!(concat!("../../fixtures/speech/", $file)))),*];
    };
}
shipped![
    "agent-answer-1.wav",
    "agent-answer-2.wav",
    "agent-answer-3.wav",
    "agent-greeting.wav",
    "caller-book.wav",
    "caller-first.wav",
    "caller-friday.wav",
    "caller-goodbye.wav",
    "caller-member.wav",
    "caller-name.wav",
    "caller-only-friday.wav",
    "caller-tuesday.wav",
    "caller-wednesday.wav",
    "caller-which.wav",
];

/// A text that cannot be spoken.
#[derive(Debug, thiserror::Error)]
pub enum SpeechError {
    /// No recording and no command.
    #[error(
        "there is no ready speech for {text:?}, and no command to make it: set one with --tts or `tts = …` in trunkline.toml, \
         for example tts = \"espeak-ng -w {{out}} {{text}}\""
    )]
    NoCommand {
        /// The text.
        text: String,
    },
    /// The command is not one.
    #[error("the speech command {command:?} {problem}")]
    BadCommand {
        /// As given.
        command: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The command did not do it.
    #[error("the speech command {command:?} failed for {text:?}: {problem}")]
    Failed {
        /// As given.
        command: String,
        /// The text.
        text: String,
        /// Why.
        problem: String,
    },
    /// What it wrote cannot be used.
    #[error("the speech for {text:?}: {problem}")]
    Unusable {
        /// The text.
        text: String,
        /// Why.
        problem: String,
    },
    /// The cache folder cannot be used.
    #[error("cannot use the speech cache {}: {source}", path.display())]
    Cache {
        /// The folder or file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

/// A command that speaks a text into a WAV file. Split into words once; `{out}`, `{text}` and `{language}` are filled in
/// after that, so that a text never passes through a shell and never becomes a word of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TtsCommand {
    given: String,
    words: Vec<String>,
}

impl TtsCommand {
    /// Reads a command such as `espeak-ng -w {out} {text}`.
    ///
    /// # Errors
    /// [`SpeechError::BadCommand`] without `{out}` or `{text}`, or with an open quote.
    pub fn parse(given: &str) -> Result<Self, SpeechError> {
        let bad = |problem: &str| SpeechError::BadCommand { command: given.to_owned(), problem: problem.to_owned() };
        let words = shell_words::split(given).map_err(|_| bad("has a quote that is not closed"))?;
        for placeholder in ["{out}", "{text}"] {
            if !words.iter().skip(1).any(|word| word.contains(placeholder)) {
                return Err(bad(&format!("needs {placeholder} among its arguments")));
            }
        }
        Ok(Self { given: given.to_owned(), words })
    }

    async fn speak(&self, text: &str, language: &str, out: &Path) -> Result<(), SpeechError> {
        let failed = |problem: String| SpeechError::Failed { command: self.given.clone(), text: text.to_owned(), problem };
        // A text that begins with a dash would be an option to most programs.
        let safe = if text.starts_with('-') { format!(" {text}") } else { text.to_owned() };
        let out = out.to_string_lossy();
        let fill = |word: &String| fill_in(word, &[("{out}", &out), ("{text}", &safe), ("{language}", language)]);
        let mut words = self.words.iter().map(fill);
        let mut command = Command::new(words.next().expect("a command has a first word"));
        command.args(words).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|error| failed(error.to_string()))?;
        let output = tokio::time::timeout(COMMAND_TIME, child.wait_with_output()).await;
        let output = output.map_err(|_| failed(format!("not done after {} s", COMMAND_TIME.as_secs())))?;
        let output = output.map_err(|error| failed(error.to_string()))?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().chars().take(400).collect::<String>();
        Err(failed(format!("{}: {said}", output.status)))
    }
}

/// Fills every placeholder in one pass: what is filled in is not looked at again.
fn fill_in(word: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = word;
    'next: while !rest.is_empty() {
        for (placeholder, value) in values {
            if let Some(after) = rest.strip_prefix(placeholder) {
                filled.push_str(value);
                rest = after;
                continue 'next;
            }
        }
        let next = rest.chars().next().expect("something is left");
        filled.push(next);
        rest = &rest[next.len_utf8()..];
    }
    filled
}

/// Where speech comes from.
#[derive(Debug, Clone)]
pub struct SpeechStore {
    command: Option<TtsCommand>,
    cache: PathBuf,
}

impl SpeechStore {
    /// The shipped recordings, and `command` for all other texts, kept below `cache`.
    #[must_use]
    pub fn new(command: Option<TtsCommand>, cache: &Path) -> Self {
        Self { command, cache: cache.to_owned() }
    }

    /// The folder that speech is kept in by default: `$XDG_CACHE_HOME/trunkline/speech`, else below `~/.cache`.
    #[must_use]
    pub fn default_cache() -> PathBuf {
        let from = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let base = from("XDG_CACHE_HOME").or_else(|| from("HOME").map(|home| home.join(".cache")));
        base.unwrap_or_else(std::env::temp_dir).join("trunkline").join("speech")
    }

    /// The speech of `text` at `rate`, without silence at either end, at the level at which it was recorded.
    ///
    /// # Errors
    /// [`SpeechError`], which names the text.
    pub async fn render(&self, text: &str, language: &str, rate: Rate) -> Result<Arc<[i16]>, SpeechError> {
        if let Some(wav) = shipped(text) {
            return usable(text, wav, rate);
        }
        let Some(command) = &self.command else { return Err(SpeechError::NoCommand { text: text.to_owned() }) };
        let path = self.cached_at(command, text, language);
        if let Some(speech) = std::fs::read(&path).ok().and_then(|wav| usable(text, &wav, rate).ok()) {
            return Ok(speech);
        }
        self.make(command, text, language, &path, rate).await
    }

    fn cached_at(&self, command: &TtsCommand, text: &str, language: &str) -> PathBuf {
        let mut hash = Sha256::new();
        for part in [command.given.as_str(), language, text] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let name: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        self.cache.join(format!("{name}.wav"))
    }

    /// Speaks beside the place in the cache and moves the file there when it is known to be good.
    async fn make(
        &self,
        command: &TtsCommand,
        text: &str,
        language: &str,
        path: &Path,
        rate: Rate,
    ) -> Result<Arc<[i16]>, SpeechError> {
        let cache = |path: &Path, source| SpeechError::Cache { path: path.to_owned(), source };
        std::fs::create_dir_all(&self.cache).map_err(|source| cache(&self.cache, source))?;
        let beside = path.with_extension(format!("{}.wav", uuid::Uuid::new_v4().simple()));
        let spoken = command.speak(text, language, &beside).await;
        let read = spoken.and_then(|()| {
            let wav = std::fs::read(&beside).map_err(|error| {
                let problem = format!("it wrote no file to {{out}}: {error}");
                SpeechError::Failed { command: command.given.clone(), text: text.to_owned(), problem }
            })?;
            usable(text, &wav, rate)
        });
        match read {
            Ok(speech) => {
                std::fs::rename(&beside, path).map_err(|source| cache(path, source))?;
                Ok(speech)
            }
            Err(error) => {
                // It may never have been written.
                drop(std::fs::remove_file(&beside));
                Err(error)
            }
        }
    }
}

/// The texts that are ready.
#[must_use]
pub fn shipped_texts() -> Vec<String> {
    index().into_iter().map(|(text, _)| text).collect()
}

fn index() -> Vec<(String, String)> {
    let index: serde_json::Value = serde_json::from_str(INDEX).expect("the shipped index is JSON; a test reads it");
    let entries = index.as_array().into_iter().flatten();
    let field = |entry: &serde_json::Value, key: &str| entry[key].as_str().unwrap_or_default().to_owned();
    entries.map(|entry| (field(entry, "text"), field(entry, "file"))).collect()
}

fn shipped(text: &str) -> Option<&'static [u8]> {
    let (_, file) = index().into_iter().find(|(of, _)| of == text)?;
    SHIPPED.iter().find(|(name, _)| *name == file).map(|(_, wav)| *wav)
}

fn usable(text: &str, wav: &[u8], rate: Rate) -> Result<Arc<[i16]>, SpeechError> {
    let unusable = |problem: String| SpeechError::Unusable { text: text.to_owned(), problem };
    let samples = read_wav(wav, rate).map_err(|error: WavError| unusable(error.to_string()))?;
    let speech = trim(&samples, SILENCE);
    if speech.is_empty() { Err(unusable("it is silent".to_owned())) } else { Ok(speech.into()) }
}
