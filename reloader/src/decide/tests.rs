//! What is decided in worlds that are made up, with clocks that cost no time.

use super::*;

const SETTINGS: Settings = Settings {
    debounce: Duration::from_secs(1),
    max_wait: Duration::from_secs(10),
    cooldown: Duration::from_secs(5),
};

/// A volume whose content changes at given times, and an application that takes whatever it
/// is made to use, or not.
struct World {
    decider: Decider,
    start: Instant,
    now: Instant,
    content: u8,
    is_proven: bool,
    has_events: bool,
    poll: Duration,
    effect: Effect,
    /// When, in milliseconds, and with what the application was to run.
    actions: Vec<(u128, u8)>,
    looks: usize,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            decider: Decider::new(SETTINGS),
            start,
            now: start,
            content: 1,
            is_proven: false,
            has_events: true,
            poll: Duration::from_mins(1),
            effect: Effect::Done,
            actions: Vec::new(),
            looks: 0,
        }
    }

    fn change(&mut self, content: u8) {
        self.content = content;
        if self.has_events {
            self.decider.event(self.now);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            match self.decider.next(self.now) {
                Next::Look { .. } => {
                    self.looks += 1;
                    self.decider.looked(Look {
                        began: self.now,
                        ended: self.now,
                        content: Some(([self.content; 32], self.is_proven)),
                        poll: self.poll,
                        apart: SETTINGS.debounce,
                    });
                }
                Next::Act(digest) => {
                    self.actions.push(((self.now - self.start).as_millis(), digest[0]));
                    self.decider.acted(self.now, digest, self.effect, 1.0);
                }
                Next::Wait(until) => {
                    assert!(until > self.now, "it must not spin");
                    if until > end {
                        self.now = end;
                        return;
                    }
                    self.now = until;
                }
            }
        }
    }

    fn settled() -> Self {
        let mut world = Self::new();
        world.run(Duration::from_secs(100));
        assert_eq!(world.actions, [(1000, 1)], "at the start, once it is seen to be stable");
        world.actions.clear();
        world
    }
}

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

#[test]
fn a_change_is_applied_when_it_has_been_quiet_and_the_same_for_the_debounce() {
    let mut world = World::settled();
    world.change(2);
    world.run(ms(5000));
    assert_eq!(world.actions, [(101_050, 2)]);
    assert!(world.looks <= 8, "{} looks", world.looks);
}

#[test]
fn what_is_proven_waits_for_quiet_only() {
    let mut world = World::settled();
    world.is_proven = true;
    world.change(2);
    world.run(ms(5000));
    assert_eq!(world.actions, [(101_000, 2)]);
}

#[test]
fn a_hundred_changes_are_few_actions_and_the_last_is_applied() {
    let mut world = World::settled();
    world.is_proven = true;
    for n in 0..100 {
        world.change(2 + n);
        world.run(ms(50));
    }
    world.run(ms(20_000));
    assert_eq!(world.actions.last().unwrap().1, 101);
    assert_eq!(world.actions.len(), 1, "{:?}", world.actions);
}

#[test]
fn content_that_changes_without_end_is_looked_at_now_and_then() {
    let mut world = World::settled();
    world.looks = 0;
    for n in 0..600 {
        world.change((n % 250) as u8 + 2);
        world.run(ms(50));
    }
    assert_eq!(world.actions, []);
    assert!(world.looks < 40, "{} looks in 30 s", world.looks);
    world.is_proven = true;
    for n in 0..600 {
        world.change((n % 250) as u8 + 2);
        world.run(ms(50));
    }
    assert!((1..=6).contains(&world.actions.len()), "{:?}", world.actions);
}

#[test]
fn without_events_two_polls_must_agree() {
    let mut world = World { has_events: false, poll: ms(5000), ..World::new() };
    world.run(ms(7000));
    world.change(2);
    world.run(ms(3500));
    world.change(3);
    world.run(ms(3500));
    assert_eq!(world.actions, [(1000, 1), (12_000, 3)], "2 was half of it");
}

#[test]
fn an_action_waits_for_the_one_before_to_cool_down() {
    let mut world = World::settled();
    world.change(2);
    world.run(ms(2000));
    world.change(3);
    world.run(ms(60_000));
    assert_eq!(world.actions, [(101_050, 2), (106_050, 3)]);
}

#[test]
fn a_failure_is_retried_ever_more_rarely_and_new_content_at_once() {
    let mut world = World::settled();
    world.effect = Effect::None;
    world.change(2);
    world.run(Duration::from_mins(30));
    let times: Vec<_> = world.actions.iter().map(|(time, _)| *time).collect();
    let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    assert_eq!(waits[..9], [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    assert_eq!(waits[9..], [300; 4]);
    world.effect = Effect::Done;
    world.actions.clear();
    let at = (world.now - world.start).as_millis();
    world.change(3);
    world.run(ms(5000));
    assert_eq!(world.actions, [(at + 1050, 3)]);
    assert!(!world.decider.has_failed());
}

#[test]
fn content_that_was_applied_before_ends_a_failure_without_an_action() {
    let mut world = World::settled();
    world.effect = Effect::None;
    world.change(2);
    world.run(ms(1500));
    assert!(world.decider.has_failed());
    world.change(1);
    world.run(ms(60_000));
    assert!(!world.decider.has_failed());
    assert_eq!(world.actions, [(101_050, 2)]);
}

#[test]
fn after_a_failure_with_unknown_effect_what_was_before_is_applied_again() {
    let mut world = World::settled();
    world.effect = Effect::Unknown;
    world.change(2);
    world.run(ms(1500));
    world.effect = Effect::Done;
    world.change(1);
    world.run(ms(60_000));
    assert_eq!(world.actions, [(101_050, 2), (102_550, 1)]);
}

#[test]
fn a_change_during_an_action_makes_a_second_one() {
    let mut world = World::settled();
    world.change(2);
    world.run(ms(1000));
    while !matches!(world.decider.next(world.now), Next::Act(_)) {
        world.run(ms(0));
        if let Next::Wait(until) = world.decider.next(world.now) {
            world.now = until;
        }
        if matches!(world.decider.next(world.now), Next::Look { .. }) {
            world.decider.looked(Look {
                began: world.now,
                ended: world.now,
                content: Some(([2; 32], false)),
                poll: world.poll,
                apart: SETTINGS.debounce,
            });
        }
    }
    world.change(3);
    world.run(ms(4000));
    assert_eq!(world.actions, [], "one at a time");
    world.decider.acted(world.now, [2; 32], Effect::Done, 0.0);
    world.run(ms(10_000));
    assert_eq!(world.actions.len(), 1);
    assert_eq!(world.actions[0].1, 3);
}
