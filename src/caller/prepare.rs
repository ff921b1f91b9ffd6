//! From a script to a caller that is ready to dial: every sound that can be made before the call is made before it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::ScriptedCaller;
use super::course::Course;
use super::effects::{self, seed_of};
use super::errands::Errands;
use super::personality::{Backchannel, Personality};
use super::player::{Patience, Player};
use super::prepared::{Bed, Manner, PreparedBackchannel, PreparedLine, PreparedStep};
use super::speech::{SpeechError, SpeechStore};
use super::suite::{Delivery, Line, Script, Step, placeholders};
use crate::audio::{Rate, read_wav};
use crate::call::{Abilities, Effect, EffectKind};

/// A script that cannot be prepared.
#[derive(Debug, thiserror::Error)]
pub enum PrepareError {
    /// A text cannot be spoken.
    #[error(transparent)]
    Speech(#[from] SpeechError),
    /// A recording that the script plays cannot be used.
    #[error("condition {condition}: <audio id=\"{id}\"/> plays {}: {problem}", path.display())]
    Clip {
        /// The condition that plays it.
        condition: u32,
        /// Its id.
        id: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A step of a script that no suite compiles to: a sound that is not known.
    #[error("condition {condition}: nothing is known that makes {step}")]
    Unknown {
        /// The condition.
        condition: u32,
        /// What it does.
        step: String,
    },
}

/// A script whose speech is ready. Cheap to clone: the speech is shared.
#[derive(Debug, Clone)]
pub struct PreparedScript {
    script: Arc<Script>,
    lines: Arc<Vec<PreparedLine>>,
    sounds: Arc<Sounds>,
    speaker: Speaker,
    manner: Manner,
}

/// Speech and recordings as they were made, before any effect; and the steps that are no speech, by condition and place.
#[derive(Debug)]
struct Sounds {
    speech: BTreeMap<String, Arc<[i16]>>,
    clips: BTreeMap<String, Arc<[i16]>>,
    others: BTreeMap<(u32, usize), PreparedStep>,
}

/// Makes speech in the voice of one script.
#[derive(Debug, Clone)]
pub(super) struct Speaker {
    store: SpeechStore,
    language: String,
    rate: Rate,
    scenario: String,
    /// The caller's pace: 1 is the voice's own.
    pace: f64,
}

impl PreparedScript {
    /// Speaks all that `script` says, and reads the recordings that it plays from the folder `audio` beside the suite, in `beside`.
    ///
    /// # Errors
    /// [`PrepareError`] for the first text that cannot be spoken or recording that cannot be used.
    pub async fn prepare(
        script: &Script,
        name: &str,
        store: &SpeechStore,
        rate: Rate,
        beside: &Path,
    ) -> Result<Self, PrepareError> {
        let (language, scenario) = (script.language.clone(), name.to_owned());
        let speaker = Speaker { store: store.clone(), language, rate, scenario, pace: 1.0 };
        let mut speech = BTreeMap::new();
        for text in script.texts() {
            speech.insert(text.to_owned(), store.render(text, &script.language, rate).await?);
        }
        let (mut clips, mut others) = (BTreeMap::new(), BTreeMap::new());
        for line in script.all_lines() {
            for (number, step) in line.steps.iter().enumerate() {
                match step {
                    Step::Say { .. } => {}
                    Step::Clip { id, .. } => drop(clips.insert(id.clone(), clip(line.condition, id, beside, rate)?)),
                    other => {
                        let seed = seed_of(name, line.condition, number);
                        let unknown = || PrepareError::Unknown { condition: line.condition, step: other.words() };
                        others.insert((line.condition, number), sound(other, seed, rate).ok_or_else(unknown)?);
                    }
                }
            }
        }
        let sounds = Sounds { speech, clips, others };
        let lines = script.all_lines().map(|line| speaker.line(line, &sounds)).collect();
        let (script, lines, sounds) = (Arc::new(script.clone()), Arc::new(lines), Arc::new(sounds));
        Ok(Self { script, lines, sounds, speaker, manner: Manner::default() })
    }

    /// The same script from a caller of this personality, whose backchannels are spoken too.
    ///
    /// # Errors
    /// [`PrepareError::Speech`] for a backchannel that cannot be spoken.
    pub async fn cast(&self, personality: &Personality) -> Result<Self, PrepareError> {
        let speaker = Speaker { pace: personality.pace, ..self.speaker.clone() };
        let mut backchannels = Vec::new();
        for Backchannel { at, text } in &personality.backchannels {
            let speech = speaker.store.render(text, &speaker.language, speaker.rate).await?;
            let samples = effects::at_speed(&speech, speaker.rate, speaker.pace).into();
            backchannels.push(PreparedBackchannel { at: *at, text: text.clone(), samples });
        }
        let manner = Manner { pause: personality.pause, interrupts: personality.interrupts, backchannels };
        let lines = self.script.all_lines().map(|line| speaker.line(line, &self.sounds)).collect();
        Ok(Self { lines: Arc::new(lines), speaker, manner, ..self.clone() })
    }

    /// What the script needs the agent's leg to be able to do.
    #[must_use]
    pub fn needs(&self) -> Abilities {
        self.script.needs()
    }

    /// A caller that plays the script.
    #[must_use]
    pub fn caller(&self, patience: Patience) -> ScriptedCaller {
        let (lines, course, rate) = (self.lines.to_vec(), Course::of(&self.script), self.speaker.rate);
        let player = Player::on_course(lines, course, self.manner.clone(), rate, patience);
        let caller = ScriptedCaller::new(player, rate, &self.speaker.scenario).needing(self.needs());
        if self.script.functions.is_empty() {
            return caller;
        }
        caller.with_errands(Errands::new(self.script.functions.clone(), Some(self.speaker.clone())))
    }
}

impl Speaker {
    /// The steps that say words which only the call has brought together.
    pub(super) async fn steps(&self, text: &str, delivery: Delivery) -> Result<Vec<PreparedStep>, SpeechError> {
        let speech = self.store.render(text, &self.language, self.rate).await?;
        Ok(self.said(&speech, delivery))
    }

    fn line(&self, line: &Line, sounds: &Sounds) -> PreparedLine {
        let mut steps = Vec::new();
        for (number, step) in line.steps.iter().enumerate() {
            match step {
                Step::Say { text, delivery } if !placeholders(text).is_empty() => {
                    steps.push(PreparedStep::Words { text: text.clone(), delivery: *delivery });
                }
                Step::Say { text, delivery } => {
                    let speech = sounds.speech.get(text).expect("every text without placeholders was spoken");
                    steps.extend(self.said(speech, *delivery));
                }
                Step::Clip { id, ignore_interruptions } => {
                    let samples = Arc::clone(sounds.clips.get(id).expect("every recording was read"));
                    steps.push(PreparedStep::Speech { samples, ignore_interruptions: *ignore_interruptions });
                }
                _ => steps.extend(sounds.others.get(&(line.condition, number)).cloned()),
            }
        }
        PreparedLine { condition: line.condition, text: line.words(), interrupt_after: line.interrupt_after, steps }
    }

    /// Speech at its pace and level, and what was done to it.
    fn said(&self, speech: &Arc<[i16]>, delivery: Delivery) -> Vec<PreparedStep> {
        let mut samples = Arc::clone(speech);
        let mut changes = Vec::new();
        let speed = delivery.speed * self.pace;
        if (speed - 1.0).abs() > 1e-9 {
            samples = effects::at_speed(&samples, self.rate, speed).into();
            changes.push(Effect { kind: EffectKind::Speed { ratio: speed }, seed: None });
        }
        if (delivery.volume - 1.0).abs() > 1e-9 {
            samples = effects::at_volume(&samples, delivery.volume).into();
            changes.push(Effect { kind: EffectKind::Volume { ratio: delivery.volume }, seed: None });
        }
        let speech = PreparedStep::Speech { samples, ignore_interruptions: delivery.ignore_interruptions };
        if changes.is_empty() { vec![speech] } else { vec![PreparedStep::Changed(changes), speech] }
    }
}

/// A step that says no words; none where it does, or its sound is not known.
fn sound(step: &Step, seed: u64, rate: Rate) -> Option<PreparedStep> {
    Some(match step {
        Step::Noise { sound, volume, time } => {
            let (samples, effect) = effects::shot(sound, *volume, *time, seed, rate)?;
            PreparedStep::Sound { samples: samples.into(), effect }
        }
        Step::Beep => {
            let (samples, effect) = effects::voicemail_beep(rate);
            PreparedStep::Sound { samples: samples.into(), effect }
        }
        Step::Background(None) => PreparedStep::Background(None),
        Step::Background(Some((sound, volume))) => {
            let (samples, effect) = effects::bed(sound, *volume, seed, rate)?;
            PreparedStep::Background(Some(Bed { samples: samples.into(), effect }))
        }
        Step::PacketLoss(percent) => PreparedStep::Loss { percent: *percent, seed },
        Step::Silence(time) => PreparedStep::Silence(*time),
        Step::Hold(time) => PreparedStep::Hold(*time),
        Step::Dtmf(digits) => PreparedStep::Dtmf(digits.clone()),
        Step::Message(data) => PreparedStep::Message(data.clone()),
        Step::Function(name) => PreparedStep::Function(name.clone()),
        Step::EndCall => PreparedStep::EndCall,
        Step::Say { .. } | Step::Clip { .. } => return None,
    })
}

fn clip(condition: u32, id: &str, beside: &Path, rate: Rate) -> Result<Arc<[i16]>, PrepareError> {
    let path = beside.join("audio").join(format!("{id}.wav"));
    let problem =
        |path: &Path, problem: String| PrepareError::Clip { condition, id: id.to_owned(), path: path.to_owned(), problem };
    let file = std::fs::File::open(&path).map_err(|error| problem(&path, error.to_string()))?;
    let samples = read_wav(std::io::BufReader::new(file), rate).map_err(|error| problem(&path, error.to_string()))?;
    Ok(samples.into())
}
