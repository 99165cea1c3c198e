//! The actions of a reload, done in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::action::{Action, Content, Failure};
use crate::decide::Effect;
use crate::stop::Stop;

/// An action, and when it is done.
pub struct Step {
    /// The action.
    pub action: Box<dyn Action>,
    /// Whether it is done at the start, too, when nobody knows what has changed before.
    pub at_start: bool,
}

/// What came of a reload.
#[derive(Debug)]
pub struct Outcome {
    /// What the application uses now.
    pub effect: Effect,
    /// What was done and how that is known, or why it failed.
    pub text: String,
    /// How long it took.
    pub took: Duration,
}

/// Steps that are done together.
#[derive(Clone)]
pub struct Steps(Arc<[Step]>);

impl Steps {
    /// These, in order.
    pub fn new(steps: Vec<Step>) -> Self {
        Self(steps.into())
    }

    /// All of them, in words.
    pub fn describe(&self) -> String {
        let steps: Vec<_> = self.0.iter().map(|step| step.action.describe()).collect();
        steps.join("; ")
    }

    /// Whether any step runs at the start.
    pub fn any_at_start(&self) -> bool {
        self.0.iter().any(|step| step.at_start)
    }

    /// Does the steps of the start, or all, until one fails.
    pub fn run(&self, content: &Content, at_start: bool, stop: &Stop) -> Outcome {
        let start = Instant::now();
        let mut done: Vec<String> = Vec::new();
        for Step { action, .. } in self.0.iter().filter(|step| step.at_start || !at_start) {
            match action.act(content, stop) {
                Ok(proof) => done.push(format!("{}: {proof}", action.describe())),
                Err(Failure { is_without_effect, error }) => {
                    let effect = match is_without_effect && done.is_empty() {
                        true => Effect::None,
                        false => Effect::Unknown,
                    };
                    let text = format!("{}: {error:#}", action.describe());
                    return Outcome { effect, text, took: start.elapsed() };
                }
            }
        }
        Outcome { effect: Effect::Done, text: done.join("; "), took: start.elapsed() }
    }

    /// What would be done, or why that could not be.
    pub fn rehearse(&self, content: &Content, at_start: bool) -> Vec<String> {
        let steps = self.0.iter().filter(|step| step.at_start || !at_start);
        steps
            .map(|Step { action, .. }| match action.rehearse(content) {
                Ok(text) => format!("{}: {text}", action.describe()),
                Err(error) => format!("{}: would fail: {error:#}", action.describe()),
            })
            .collect()
    }
}
