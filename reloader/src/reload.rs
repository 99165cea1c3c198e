//! The steps of a reload, run in order until one fails: checks of the content first, then actions.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::action::{Action, Content, Failure};
use crate::decide::Effect;
use crate::stop::Stop;

/// One step of a reload.
pub struct Step {
    /// The action.
    pub action: Box<dyn Action>,
    /// Whether it only judges the content, and never changes an application.
    pub is_check: bool,
    /// Whether it also runs at the start, when the application may use the content already.
    pub at_start: bool,
}

/// The result of a reload.
#[derive(Debug)]
pub struct Outcome {
    /// Whether the application uses the content.
    pub effect: Effect,
    /// Each step with its proof, or the step that failed with the reason.
    pub text: String,
    /// How long the reload took.
    pub took: Duration,
}

/// The steps of a reload. Clones share them.
#[derive(Clone)]
pub struct Steps(Arc<[Step]>);

impl Steps {
    /// Makes a reload of these steps, in this order.
    pub fn new(steps: Vec<Step>) -> Self {
        Self(steps.into())
    }

    /// All steps in words, for the line at the start.
    pub fn describe(&self) -> String {
        let steps: Vec<_> = self.0.iter().map(|step| step.action.describe()).collect();
        steps.join("; ")
    }

    /// Whether any step runs at the start.
    pub fn any_at_start(&self) -> bool {
        self.0.iter().any(|step| step.at_start)
    }

    /// Runs the steps, at the start only those for it, until one fails. A failure leaves the
    /// application unchanged only if it is without effect and no action was run before it.
    pub fn run(&self, content: &Content, is_start: bool, stop: &Stop) -> Outcome {
        let began = Instant::now();
        let mut done: Vec<String> = Vec::new();
        let mut has_acted = false;
        for Step { action, is_check, .. } in self.steps(is_start) {
            match action.run(content, stop) {
                Ok(proof) => {
                    done.push(format!("{}: {proof}", action.describe()));
                    has_acted |= !is_check;
                }
                Err(Failure { is_without_effect, error }) => {
                    let effect = match is_without_effect && !has_acted {
                        true => Effect::Unchanged,
                        false => Effect::Unknown,
                    };
                    let text = format!("{}: {error:#}", action.describe());
                    return Outcome { effect, text, took: began.elapsed() };
                }
            }
        }
        Outcome { effect: Effect::Applied, text: done.join("; "), took: began.elapsed() }
    }

    /// What each step would do, or why it would fail; nothing is changed.
    pub fn dry_run(&self, content: &Content, is_start: bool) -> Vec<String> {
        self.steps(is_start)
            .map(|Step { action, .. }| match action.dry_run(content) {
                Ok(text) => format!("{}: {text}", action.describe()),
                Err(error) => format!("{}: would fail: {error:#}", action.describe()),
            })
            .collect()
    }

    fn steps(&self, is_start: bool) -> impl Iterator<Item = &Step> {
        self.0.iter().filter(move |step| step.at_start || !is_start)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::{Result, anyhow};

    /// An action that always ends the same way: with or without an effect.
    struct Fixed {
        name: &'static str,
        failure: Option<bool>,
    }

    impl Action for Fixed {
        fn describe(&self) -> String {
            self.name.to_owned()
        }

        fn run(&self, _: &Content, _: &Stop) -> Result<String, Failure> {
            match self.failure {
                None => Ok("done".to_owned()),
                Some(true) => Err(Failure::without_effect(anyhow!("refused"))),
                Some(false) => Err(Failure::in_doubt(anyhow!("lost"))),
            }
        }

        fn dry_run(&self, _: &Content) -> Result<String> {
            if self.failure.is_some() { Err(anyhow!("refused")) } else { Ok("it".to_owned()) }
        }
    }

    fn steps(steps: &[(&'static str, Option<bool>, bool)]) -> Steps {
        let step = |&(name, failure, at_start): &_| Step {
            action: Box::new(Fixed { name, failure }),
            is_check: name.starts_with("check"),
            at_start,
        };
        Steps::new(steps.iter().map(step).collect())
    }

    fn content() -> Content {
        Content { digest: "0".repeat(64), directories: Vec::new(), files: None }
    }

    fn run(steps: &Steps, is_start: bool) -> (Effect, String) {
        let outcome = steps.run(&content(), is_start, &Stop::default());
        (outcome.effect, outcome.text)
    }

    #[test]
    fn steps_run_in_order_and_at_the_start_only_those_for_it() {
        let steps = steps(&[("a", None, false), ("b", None, true)]);
        assert_eq!(run(&steps, false), (Effect::Applied, "a: done; b: done".to_owned()));
        assert_eq!(run(&steps, true), (Effect::Applied, "b: done".to_owned()));
        assert!(steps.any_at_start());
        assert_eq!(steps.describe(), "a; b");
    }

    #[test]
    fn a_failure_ends_the_reload_and_its_effect_depends_on_what_was_done_before() {
        let refused = steps(&[("a", Some(true), false), ("b", None, false)]);
        assert_eq!(run(&refused, false), (Effect::Unchanged, "a: refused".to_owned()));
        let lost = steps(&[("a", Some(false), false)]);
        assert_eq!(run(&lost, false), (Effect::Unknown, "a: lost".to_owned()));
        let second = steps(&[("a", None, false), ("b", Some(true), false)]);
        assert_eq!(run(&second, false), (Effect::Unknown, "b: refused".to_owned()));
    }

    #[test]
    fn a_check_before_an_action_leaves_the_application_unchanged() {
        let refused = steps(&[("check a", Some(true), false), ("b", None, false)]);
        assert_eq!(run(&refused, false), (Effect::Unchanged, "check a: refused".to_owned()));
        let second = steps(&[("check a", None, false), ("b", Some(true), false)]);
        assert_eq!(run(&second, false), (Effect::Unchanged, "b: refused".to_owned()));
        let third =
            steps(&[("check a", None, false), ("b", None, false), ("c", Some(true), false)]);
        assert_eq!(run(&third, false), (Effect::Unknown, "c: refused".to_owned()));
    }

    #[test]
    fn a_dry_run_tells_of_every_step() {
        let steps = steps(&[("a", Some(true), true), ("b", None, true), ("c", None, false)]);
        let expected = ["a: would fail: refused", "b: it"];
        assert_eq!(steps.dry_run(&content(), true), expected);
    }
}
