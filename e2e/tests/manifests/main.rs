//! Tests of the manifests, the examples and the documents: they render, are valid for every supported
//! release of Kubernetes, agree with each other and with the programs, and grant only the rights that
//! are used.
//!
//! `make checks` installs the tools that these tests run. The tests in `e2e/tests/pods` run the
//! programs in pods.

mod alerts;
mod api;
mod banned;
mod checked;
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
