//! Every object as the type that a client of Kubernetes has for it: no field may be left over.

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

/// The fields that the type does not have, or why the value is not of the type.
fn leftovers<T: DeserializeOwned>(object: &Value) -> Result<Vec<String>, String> {
    let mut ignored = Vec::new();
    serde_ignored::deserialize::<_, _, T>(object, |path| ignored.push(path.to_string()))
        .map(|_| ignored)
        .map_err(|error| error.to_string())
}

fn by_kind(object: &Value) -> Option<Result<Vec<String>, String>> {
    Some(match kind(object) {
        "ConfigMap" => leftovers::<ConfigMap>(object),
        "CronJob" => leftovers::<CronJob>(object),
        "Deployment" => leftovers::<Deployment>(object),
        "Job" => leftovers::<Job>(object),
        "Namespace" => leftovers::<Namespace>(object),
        "NetworkPolicy" => leftovers::<NetworkPolicy>(object),
        "PersistentVolumeClaim" => leftovers::<PersistentVolumeClaim>(object),
        "Pod" => leftovers::<Pod>(object),
        "Role" => leftovers::<Role>(object),
        "RoleBinding" => leftovers::<RoleBinding>(object),
        "Secret" => leftovers::<Secret>(object),
        "Service" => leftovers::<Service>(object),
        "ServiceAccount" => leftovers::<ServiceAccount>(object),
        "ExternalSecret" | "PodMonitor" | "PrometheusRule" => return None,
        other => Err(format!("no type for {other}")),
    })
}

#[test]
fn no_field_is_unknown_to_clients() {
    for set in sets() {
        for object in &set.objects {
            if let Some(found) = by_kind(object) {
                assert_eq!(found, Ok(vec![]), "{} of {}", kind_and_name(object), set.from);
            }
        }
    }
}

#[test]
fn an_unknown_field_is_noticed() {
    let policy = json!({"kind": "NetworkPolicy", "spec": {"podSelector": {}, "outgoing": []}});
    assert_eq!(by_kind(&policy), Some(Ok(vec!["spec.?.outgoing".to_owned()])));
}
