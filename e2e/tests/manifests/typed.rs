//! Parses every object as its type in `k8s-openapi`. A field that the type lacks fails the test.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::batch::v1::{CronJob, Job};
use k8s_openapi::api::core::v1::{
    ConfigMap, Namespace, PersistentVolumeClaim, Pod, Secret, Service, ServiceAccount,
};
use k8s_openapi::api::networking::v1::NetworkPolicy;
use k8s_openapi::api::rbac::v1::{Role, RoleBinding};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::objects::{kind, kind_and_name};
use crate::rendered::sets;

/// The fields that the type lacks, or the error if the object does not parse.
fn unknown_fields<T: DeserializeOwned>(object: &Value) -> Result<Vec<String>, String> {
    let mut ignored = Vec::new();
    serde_ignored::deserialize::<_, _, T>(object, |path| ignored.push(path.to_string()))
        .map(|_| ignored)
        .map_err(|error| error.to_string())
}

/// [`unknown_fields`] for the object's kind; `None` for a custom kind of an operator.
fn unknown_fields_of(object: &Value) -> Option<Result<Vec<String>, String>> {
    Some(match kind(object) {
        "ConfigMap" => unknown_fields::<ConfigMap>(object),
        "CronJob" => unknown_fields::<CronJob>(object),
        "Deployment" => unknown_fields::<Deployment>(object),
        "Job" => unknown_fields::<Job>(object),
        "Namespace" => unknown_fields::<Namespace>(object),
        "NetworkPolicy" => unknown_fields::<NetworkPolicy>(object),
        "PersistentVolumeClaim" => unknown_fields::<PersistentVolumeClaim>(object),
        "Pod" => unknown_fields::<Pod>(object),
        "Role" => unknown_fields::<Role>(object),
        "RoleBinding" => unknown_fields::<RoleBinding>(object),
        "Secret" => unknown_fields::<Secret>(object),
        "Service" => unknown_fields::<Service>(object),
        "ServiceAccount" => unknown_fields::<ServiceAccount>(object),
        "ExternalSecret" | "PodMonitor" | "PrometheusRule" => return None,
        other => Err(format!("no type for {other}")),
    })
}

#[test]
fn objects_have_no_fields_that_their_types_lack() {
    for set in sets() {
        for object in &set.objects {
            if let Some(found) = unknown_fields_of(object) {
                assert_eq!(found, Ok(vec![]), "{} of {}", kind_and_name(object), set.from);
            }
        }
    }
}

#[test]
fn an_unknown_field_is_reported() {
    let policy = json!({"kind": "NetworkPolicy", "spec": {"podSelector": {}, "outgoing": []}});
    assert_eq!(unknown_fields_of(&policy), Some(Ok(vec!["spec.?.outgoing".to_owned()])));
}
