//! Sound whose messages may come out of order, put back into it by their numbers.

use std::collections::BTreeMap;

use super::dialect::Incoming;

/// So many messages are held while one before them is missing: 100 ms, where each has 20.
const MOST_HELD: usize = 5;
/// Numbers that are further apart than this many are no gap: the provider counts anew.
const LONGEST_GAP: u64 = 50;

/// Puts them in order. A message that comes after what followed it was let go is left out.
#[derive(Debug, Default)]
pub(super) struct Order {
    due: Option<u64>,
    held: BTreeMap<u64, Vec<i16>>,
}

impl Order {
    /// Takes a message's sound. What is due goes into `told`.
    pub(super) fn take(&mut self, number: u64, samples: Vec<i16>, told: &mut Vec<Incoming>) {
        let due = self.due.unwrap_or(number);
        self.due = Some(due);
        if number >= due {
            self.held.insert(number, samples);
        } else if due - number > LONGEST_GAP {
            self.end(told);
            self.due = Some(number);
            self.held.insert(number, samples);
        }
        self.let_go(MOST_HELD, told);
    }

    /// No more will come: what is held is let go.
    pub(super) fn end(&mut self, told: &mut Vec<Incoming>) {
        self.let_go(1, told);
    }

    /// Lets go what is due, and what is held once it is as much as `most`.
    fn let_go(&mut self, most: usize, told: &mut Vec<Incoming>) {
        let Some(due) = &mut self.due else { return };
        while let Some(entry) = self.held.first_entry() {
            let gap = *entry.key() - *due;
            if gap > 0 && self.held.len() < most {
                return;
            }
            let (number, samples) = self.held.pop_first().expect("just seen");
            if (1..=LONGEST_GAP).contains(&gap) {
                told.push(Incoming::Missing { messages: gap, samples: gap * samples.len() as u64 });
            }
            *due = number.saturating_add(1);
            told.push(Incoming::Audio(samples));
        }
    }
}
