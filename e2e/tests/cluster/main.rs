//! Tests on a Kubernetes of two nodes. `make test-cluster` runs these tests in `e2e/cluster/contained`, and
//! `make test-cluster-full` those of the module `full` too, which take longer.

mod applied;
mod deployment;
mod full;
mod infrastructure;
mod kubectl;
mod monitoring;
mod network;
mod node;
mod ownership;
mod provisioning;
mod site;
