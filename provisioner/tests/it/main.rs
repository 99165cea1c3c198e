//! Runs the program as users do, and looks at the volume.
//!
//! All tests are one program, because that links much faster than twelve.

mod check;
mod earlier_versions;
mod files;
mod migration;
mod owner;
mod plan;
mod progress;
mod rollback;
mod runs;
mod sources;
mod support;
mod then;
mod volumes;
