//! What the manifests, the examples and the documents promise: that they render, are valid for every
//! supported Kubernetes, agree with each other and with the programs, and give no more rights than
//! are used.
//!
//! Needs the programs that `make checks` installs. What the programs themselves do in pods is not
//! tested here.

mod alerts;
mod api;
mod banned;
mod checkov;
mod commands;
mod complaints;
mod documents;
mod examples;
mod gates;
mod metrics;
mod network;
mod objects;
mod pods;
mod programs;
mod references;
mod rendered;
mod rights;
mod schemas;
mod settings;
mod sidecars;
mod symptoms;
mod tools;
mod trigger;
mod typed;
