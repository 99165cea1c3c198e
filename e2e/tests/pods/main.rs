//! The image, and every program in real containers and pods, as the manifests run them. `make e2e`
//! runs these tests, inside of `e2e/pods/contained`.

mod ends;
mod image;
mod names;
mod ownership;
mod pod;
mod podman;
mod provisioning;
