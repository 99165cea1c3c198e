//! Gives child processes the default actions of signals.
//!
//! Ignored signals stay ignored across `fork` and `exec`. Shells ignore SIGINT in background jobs,
//! and `nohup` ignores SIGHUP: a program that such a caller tests would ignore them, too.

use std::ffi::c_int;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Once};

use nix::sys::signal::Signal;

/// Lets SIGHUP, SIGINT and SIGTERM end the children that this process starts from now on, unless
/// they decide otherwise. Signals end this process as well.
///
/// A signal with a handler gets its default action at `exec`, and an ignored one does not.
/// So this function installs handlers, which do what the default action does.
///
/// # Panics
/// Panics if a handler cannot be installed.
pub fn reset_for_children() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        for signal in [Signal::SIGHUP, Signal::SIGINT, Signal::SIGTERM] {
            let always = Arc::new(AtomicBool::new(true));
            signal_hook::flag::register_conditional_default(signal as c_int, always)
                .unwrap_or_else(|error| panic!("failed to handle {signal}: {error}"));
        }
    });
}
