//! The mutations of a session: applied one at a time, answered in their order.

use std::collections::VecDeque;

use protocol::{Push, Reject};

use super::command::{Awaited, Command, Frame, HubCommand};
use crate::cursor::{CommitId, Position};
use crate::mutation::Applied;
use crate::mutation::fields::Merged;

/// The mutations that wait, whether one is being applied, and the answers that have not been sent.
#[derive(Debug, Default)]
pub(super) struct Mutations {
    waiting: VecDeque<Push>,
    applying: bool,
    answers: VecDeque<Answer>,
    /// No positions come any more.
    ends: bool,
}

#[derive(Debug)]
enum Answer {
    /// Sent just before the first `cursor` frame whose position contains the commit.
    Ack {
        mutation: u64,
        commit_id: Option<CommitId>,
        merged: Option<Box<Merged>>,
    },
    Reject {
        mutation: u64,
        reject: Reject,
    },
}

impl Mutations {
    pub(super) fn waiting(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn answers_waiting(&self) -> usize {
        self.answers.len()
    }

    pub(super) fn is_applying(&self) -> bool {
        self.applying
    }

    pub(super) fn push<B>(&mut self, push: Push) -> Vec<Command<B>> {
        self.waiting.push_back(push);
        self.apply_next()
    }

    fn apply_next<B>(&mut self) -> Vec<Command<B>> {
        if self.applying {
            return Vec::new();
        }
        let Some(push) = self.waiting.pop_front() else {
            return Vec::new();
        };
        self.applying = true;
        vec![Command::Apply(Box::new(push))]
    }

    /// Takes the result of the mutation that was being applied.
    pub(super) fn applied<B>(&mut self, mutation: u64, applied: Applied) -> Vec<Command<B>> {
        self.applying = false;
        let mut commands = Vec::new();
        match applied {
            Applied::Committed {
                commit_id, merged, ..
            } => {
                let awaited = commit_id.filter(|_| !self.ends);
                commands.extend(awaited.map(await_commit));
                self.answers.push_back(Answer::Ack {
                    mutation,
                    commit_id,
                    merged: (!merged.is_empty()).then(|| merged.into()),
                });
            }
            Applied::Rejected(reject) => {
                self.answers.push_back(Answer::Reject { mutation, reject });
            }
        }
        self.answer_without_cursor(&mut commands);
        commands.extend(self.apply_next());
        commands
    }

    /// Sends every answer without its position, from now on.
    pub(super) fn end<B>(&mut self) -> Vec<Command<B>> {
        self.ends = true;
        let mut commands = Vec::new();
        self.answer_without_cursor(&mut commands);
        commands
    }

    /// Sends the answers at the front that wait for no position. An ack without a commit id is older than
    /// the log, so every position contains it.
    fn answer_without_cursor<B>(&mut self, commands: &mut Vec<Command<B>>) {
        if self.ends {
            while !self.answers.is_empty() {
                self.answer_first(commands);
            }
        }
        while let Some(
            Answer::Reject { .. }
            | Answer::Ack {
                commit_id: None, ..
            },
        ) = self.answers.front()
        {
            self.answer_first(commands);
        }
    }

    fn answer_first<B>(&mut self, commands: &mut Vec<Command<B>>) {
        commands.extend(self.answers.pop_front().map(|answer| {
            Command::Send(match answer {
                Answer::Ack {
                    mutation, merged, ..
                } => Frame::Ack { mutation, merged },
                Answer::Reject { mutation, reject } => Frame::Reject { mutation, reject },
            })
        }));
    }

    /// Sends the answers at the front that may leave before a `cursor` frame with this position.
    pub(super) fn answer_up_to<B>(&mut self, position: &Position, commands: &mut Vec<Command<B>>) {
        while self.has_answer_at(position) {
            self.answer_first(commands);
        }
    }

    /// Whether the first answer may leave before a `cursor` frame with this position.
    pub(super) fn has_answer_at(&self, position: &Position) -> bool {
        match self.answers.front() {
            Some(Answer::Ack {
                commit_id: Some(commit_id),
                ..
            }) => position.contains(*commit_id),
            Some(
                Answer::Ack {
                    commit_id: None, ..
                }
                | Answer::Reject { .. },
            ) => true,
            None => false,
        }
    }

    /// Commands the hub again to await what the answers wait for.
    pub(super) fn await_again<B>(&self) -> impl Iterator<Item = Command<B>> {
        self.answers.iter().filter_map(|answer| match answer {
            Answer::Ack { commit_id, .. } => commit_id.map(await_commit),
            Answer::Reject { .. } => None,
        })
    }
}

fn await_commit<B>(commit_id: CommitId) -> Command<B> {
    Command::Hub(HubCommand::Await(Awaited::Commit(commit_id)))
}
