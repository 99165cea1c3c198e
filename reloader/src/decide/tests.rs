//! Decisions in simulated worlds, whose clocks cost no time.

use super::*;

const SETTINGS: Settings = Settings {
    debounce: Duration::from_secs(1),
    max_wait: Duration::from_secs(10),
    cooldown: Duration::from_secs(5),
};

/// A volume whose content changes at given times, and an application whose reloads have a given
/// effect.
struct World {
    decider: Decider,
    start: Instant,
    now: Instant,
    content: u8,
    is_verified: bool,
    has_events: bool,
    poll: Duration,
    effect: Effect,
    /// The time of each reload, in milliseconds, and its content.
    reloads: Vec<(u128, u8)>,
    scans: usize,
}

impl World {
    fn new() -> Self {
        let start = Instant::now();
        Self {
            decider: Decider::new(SETTINGS),
            start,
            now: start,
            content: 1,
            is_verified: false,
            has_events: true,
            poll: Duration::from_mins(1),
            effect: Effect::Applied,
            reloads: Vec::new(),
            scans: 0,
        }
    }

    fn change(&mut self, content: u8) {
        self.content = content;
        if self.has_events {
            self.decider.record_event(self.now);
        }
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            match self.decider.next(self.now) {
                Next::Scan { .. } => {
                    self.scans += 1;
                    self.decider.record_scan(ScanReport {
                        began: self.now,
                        ended: self.now,
                        content: Some(found(self.content, self.is_verified)),
                        poll: self.poll,
                        apart: SETTINGS.debounce,
                    });
                }
                Next::Reload(digest) => {
                    self.reloads.push(((self.now - self.start).as_millis(), digest[0]));
                    self.decider.record_reload(self.now, digest, self.effect, 1.0);
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
        assert_eq!(world.reloads, [(1000, 1)], "at the start, once it is stable");
        world.reloads.clear();
        world
    }
}

fn found(content: u8, is_verified: bool) -> Found {
    Found { digest: [content; 32], is_verified }
}

const fn ms(time: u64) -> Duration {
    Duration::from_millis(time)
}

#[test]
fn a_change_is_reloaded_once_it_is_quiet_and_stable() {
    let mut world = World::settled();
    world.change(2);
    world.run(ms(5000));
    assert_eq!(world.reloads, [(101_050, 2)]);
    assert!(world.scans <= 8, "{} scans", world.scans);
}

#[test]
fn verified_content_waits_for_quiet_only() {
    let mut world = World::settled();
    world.is_verified = true;
    world.change(2);
    world.run(ms(5000));
    assert_eq!(world.reloads, [(101_000, 2)]);
}

#[test]
fn a_hundred_quick_changes_cause_one_reload_of_the_last() {
    let mut world = World::settled();
    world.is_verified = true;
    for n in 0..100 {
        world.change(2 + n);
        world.run(ms(50));
    }
    world.run(ms(20_000));
    assert_eq!(world.reloads.last().unwrap().1, 101);
    assert_eq!(world.reloads.len(), 1, "{:?}", world.reloads);
}

#[test]
fn endless_changes_are_scanned_once_per_debounce() {
    let mut world = World::settled();
    world.scans = 0;
    for n in 0..600 {
        world.change((n % 250) as u8 + 2);
        world.run(ms(50));
    }
    assert_eq!(world.reloads, []);
    assert!(world.scans < 40, "{} scans in 30 s", world.scans);
    world.is_verified = true;
    for n in 0..600 {
        world.change((n % 250) as u8 + 2);
        world.run(ms(50));
    }
    assert!((1..=6).contains(&world.reloads.len()), "{:?}", world.reloads);
}

#[test]
fn without_events_two_polls_must_agree() {
    let mut world = World { has_events: false, poll: ms(5000), ..World::new() };
    world.run(ms(7000));
    world.change(2);
    world.run(ms(3500));
    world.change(3);
    world.run(ms(3500));
    assert_eq!(world.reloads, [(1000, 1), (12_000, 3)], "2 was incomplete");
}

#[test]
fn a_reload_waits_for_the_cooldown() {
    let mut world = World::settled();
    world.change(2);
    world.run(ms(2000));
    world.change(3);
    world.run(ms(60_000));
    assert_eq!(world.reloads, [(101_050, 2), (106_050, 3)]);
}

#[test]
fn a_failure_is_retried_with_backoff_and_new_content_at_once() {
    let mut world = World::settled();
    world.effect = Effect::Unchanged;
    world.change(2);
    world.run(Duration::from_mins(30));
    let times: Vec<_> = world.reloads.iter().map(|(time, _)| *time).collect();
    let waits: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]) / 1000).collect();
    assert_eq!(waits[..9], [1, 2, 4, 8, 16, 32, 64, 128, 256]);
    assert_eq!(waits[9..], [300; 4]);
    world.effect = Effect::Applied;
    world.reloads.clear();
    let at = (world.now - world.start).as_millis();
    world.change(3);
    world.run(ms(5000));
    assert_eq!(world.reloads, [(at + 1050, 3)]);
    assert!(!world.decider.has_failed());
}

#[test]
fn a_failure_ends_without_a_reload_when_the_applied_content_is_back() {
    let mut world = World::settled();
    world.effect = Effect::Unchanged;
    world.change(2);
    world.run(ms(1500));
    assert!(world.decider.has_failed());
    world.change(1);
    world.run(ms(60_000));
    assert!(!world.decider.has_failed());
    assert_eq!(world.reloads, [(101_050, 2)]);
}

#[test]
fn after_an_unknown_effect_the_earlier_content_is_reloaded() {
    let mut world = World::settled();
    world.effect = Effect::Unknown;
    world.change(2);
    world.run(ms(1500));
    world.effect = Effect::Applied;
    world.change(1);
    world.run(ms(60_000));
    assert_eq!(world.reloads, [(101_050, 2), (102_550, 1)]);
}

#[test]
fn a_change_during_a_reload_causes_a_second_one() {
    let mut world = World::settled();
    world.change(2);
    world.run(ms(1000));
    while !matches!(world.decider.next(world.now), Next::Reload(_)) {
        world.run(ms(0));
        if let Next::Wait(until) = world.decider.next(world.now) {
            world.now = until;
        }
        if matches!(world.decider.next(world.now), Next::Scan { .. }) {
            world.decider.record_scan(ScanReport {
                began: world.now,
                ended: world.now,
                content: Some(found(2, false)),
                poll: world.poll,
                apart: SETTINGS.debounce,
            });
        }
    }
    world.change(3);
    world.run(ms(4000));
    assert_eq!(world.reloads, [], "one at a time");
    world.decider.record_reload(world.now, [2; 32], Effect::Applied, 0.0);
    world.run(ms(10_000));
    assert_eq!(world.reloads.len(), 1);
    assert_eq!(world.reloads[0].1, 3);
}
