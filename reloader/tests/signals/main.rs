//! Signals to real processes, and the proof that a real nginx has reloaded.

mod namespaces;
mod reload;
mod run;
mod starts;
mod targets;
