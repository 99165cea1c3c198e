//! Tests the programs with the real OPA, Keycloak and nginx, started as the manifests start them: with the
//! arguments, environment and configuration of `kubectl kustomize k8s/provisioning/base`, at the paths of
//! the manifests, on a read-only root, as their users.
//!
//! `make test-applications` runs these tests in `e2e/applications/contained`: all processes, mounts and
//! ports are in namespaces that end with the run. Only addresses differ from the manifests, because all
//! containers share one loopback ([`container::Container::replace`]).

mod container;
mod data;
mod keycloak;
mod nginx;
mod opa;
mod postgres;
mod rendered;
