//! The client's mutations: which were sent, and how each was answered.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::frame::{Fields, Violation, rule};

/// The reject code after which the mutation's number remains free.
const OUT_OF_ORDER: &str = "out_of_order";
/// The reject codes that say something of the number, and not how its mutation was answered.
const OF_THE_NUMBER: [&str; 3] = [OUT_OF_ORDER, "forked", "forgotten"];

/// The reject code of the application's own code, which alone has a reason.
const REFUSED: &str = "refused";

const REJECT_CODES: [&str; 14] = [
    "invalid",
    "unknown_entity",
    "unknown_column",
    "not_found",
    "exists",
    "constraint",
    "forbidden",
    REFUSED,
    "unknown_mutator",
    "too_large",
    "clock",
    OUT_OF_ORDER,
    "forked",
    "forgotten",
];

/// How the server answered a mutation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PushOutcome {
    /// It is committed.
    Acked {
        /// The clocks of writes that count under another than they said: `stamps` in the `ack`.
        stamps: Vec<Value>,
    },
    /// It was not applied.
    Rejected(Rejection),
}

/// A `reject` frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rejection {
    /// The protocol's code.
    pub code: String,
    /// The message for people.
    pub message: String,
    /// With `refused`, the application's own code.
    pub reason: Option<String>,
    /// The write at fault, counted from 0.
    pub write: Option<u64>,
    /// The column at fault.
    pub column: Option<String>,
    /// With `out_of_order`, the number that the server expects.
    pub expected: Option<u64>,
}

impl PushOutcome {
    /// Panics unless it was acked.
    #[track_caller]
    pub fn acked(&self) {
        assert!(
            matches!(self, Self::Acked { .. }),
            "expected an ack: {self:?}"
        );
    }

    /// The clocks of writes that count under another than they said. Panics unless it was acked.
    #[track_caller]
    pub fn stamps(&self) -> &[Value] {
        match self {
            Self::Acked { stamps } => stamps,
            Self::Rejected(rejection) => panic!("expected an ack: {rejection:?}"),
        }
    }

    /// Panics unless it was rejected.
    #[track_caller]
    pub fn rejected(&self) -> &Rejection {
        match self {
            Self::Rejected(rejection) => rejection,
            Self::Acked { .. } => panic!("expected a reject: {self:?}"),
        }
    }

    /// Whether the server must answer the same when the mutation is pushed again.
    fn is_final(&self) -> bool {
        !matches!(self, Self::Rejected(rejection) if OF_THE_NUMBER.contains(&rejection.code.as_str()))
    }

    fn repeats(&self, first: &Self) -> bool {
        match (self, first) {
            (Self::Acked { stamps: again }, Self::Acked { stamps: first }) => again == first,
            (Self::Rejected(again), Self::Rejected(first)) => again.code == first.code,
            _ => false,
        }
    }
}

/// The mutations of one connection, carried over to the next.
#[derive(Clone, Debug, Default)]
pub(super) struct Pushes {
    /// The highest number that the server has settled, from `welcome` and from its answers.
    pub(super) last_mutation: u64,
    /// The writes of mutations without an answer.
    pub(super) unanswered: BTreeMap<u64, Value>,
    pub(super) outcomes: BTreeMap<u64, PushOutcome>,
    /// `last_mutation` of this connection's `welcome`: answers up to here are repeated, in any order.
    welcomed: u64,
    /// The number of answers that the server owes on this connection, for each mutation.
    owed: BTreeMap<u64, u32>,
    answers: BTreeMap<u64, u64>,
    /// Those of `unanswered` that no earlier connection sent.
    first_sent_here: BTreeSet<u64>,
    last_acked: u64,
}

impl Pushes {
    /// Begins a connection. Mutations that the server has settled need not be pushed again.
    pub(super) fn welcome(&mut self, last_mutation: u64) -> Result<(), Violation> {
        rule!(
            last_mutation >= self.last_mutation,
            "`last_mutation` is {last_mutation}, but {} was answered before",
            self.last_mutation
        );
        self.last_mutation = last_mutation;
        self.welcomed = last_mutation;
        self.unanswered
            .retain(|mutation, _| *mutation > last_mutation);
        self.owed.clear();
        self.first_sent_here.clear();
        self.last_acked = 0;
        Ok(())
    }

    pub(super) fn next(&self) -> u64 {
        let sent = self
            .unanswered
            .last_key_value()
            .map_or(0, |(mutation, _)| *mutation);
        1 + sent.max(self.last_mutation)
    }

    pub(super) fn send(&mut self, mutation: u64, writes: &Value) {
        if mutation > self.last_mutation
            && self.unanswered.insert(mutation, writes.clone()).is_none()
        {
            self.first_sent_here.insert(mutation);
        }
        *self.owed.entry(mutation).or_default() += 1;
    }

    /// The number of answers to a mutation.
    pub(super) fn answers(&self, mutation: u64) -> u64 {
        self.answers.get(&mutation).copied().unwrap_or_default()
    }

    pub(super) fn ack(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        let mutation = frame.number("mutation")?;
        if mutation > self.welcomed && !self.is_settled(mutation) {
            rule!(
                mutation > self.last_acked,
                "ack {mutation} after ack {}",
                self.last_acked
            );
            self.last_acked = mutation;
        }
        let stamps = match frame.optional("stamps") {
            Some(_) => frame.list("stamps")?.to_vec(),
            None => Vec::new(),
        };
        for stamp in &stamps {
            let stamp = Fields::of(stamp)?;
            stamp.number("write")?;
            stamp.text("hlc")?;
        }
        self.settle(mutation, PushOutcome::Acked { stamps })
    }

    pub(super) fn reject(&mut self, frame: Fields<'_>) -> Result<(), Violation> {
        let rejection = Rejection {
            code: frame.text("code")?.to_owned(),
            message: frame.text("message")?.to_owned(),
            reason: frame.optional_text("reason")?.map(str::to_owned),
            write: frame.optional_number("write")?,
            column: frame.optional_text("column")?.map(str::to_owned),
            expected: frame.optional_number("expected")?,
        };
        rule!(
            REJECT_CODES.contains(&rejection.code.as_str()),
            "an unknown reject code `{}`",
            rejection.code
        );
        rule!(
            (rejection.code == OUT_OF_ORDER) == rejection.expected.is_some(),
            "`expected` belongs to {OUT_OF_ORDER}, and to it alone"
        );
        rule!(
            rejection.reason.is_none() || rejection.code == REFUSED,
            "`reason` belongs to {REFUSED} alone"
        );
        self.settle(frame.number("mutation")?, PushOutcome::Rejected(rejection))
    }

    /// Checks a change of the client's own mutation that is about to become visible.
    pub(super) fn visible(&self, mutation: u64) -> Result<(), Violation> {
        rule!(
            !self.first_sent_here.contains(&mutation),
            "mutation {mutation} became visible before its ack"
        );
        let outcome = self.outcomes.get(&mutation);
        rule!(
            !matches!(outcome, Some(PushOutcome::Rejected(_))),
            "mutation {mutation} was rejected, and yet it became visible"
        );
        Ok(())
    }

    fn is_settled(&self, mutation: u64) -> bool {
        self.outcomes
            .get(&mutation)
            .is_some_and(PushOutcome::is_final)
    }

    fn settle(&mut self, mutation: u64, outcome: PushOutcome) -> Result<(), Violation> {
        let owed = self.owed.get_mut(&mutation).filter(|owed| **owed > 0);
        let Some(owed) = owed else {
            return Err(Violation(format!(
                "mutation {mutation} is answered, but no push waits for an answer"
            )));
        };
        *owed -= 1;
        *self.answers.entry(mutation).or_default() += 1;
        if let Some(first) = self
            .outcomes
            .get(&mutation)
            .filter(|first| first.is_final() && outcome.is_final())
        {
            rule!(
                outcome.repeats(first),
                "mutation {mutation} was {first:?} and is now {outcome:?}"
            );
        }
        if outcome.is_final() {
            self.last_mutation = self.last_mutation.max(mutation);
        }
        self.unanswered.remove(&mutation);
        self.first_sent_here.remove(&mutation);
        self.outcomes.insert(mutation, outcome);
        Ok(())
    }
}
