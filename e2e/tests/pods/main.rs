//! Tests the image, and each program in containers and pods that are made from the manifests.
//! `make e2e` runs these tests in `e2e/pods/contained`.

mod checks;
mod ends;
mod image;
mod names;
mod ownership;
mod pod;
mod podman;
mod provisioning;
