//! The fields of a workload that matter to a rollout, and the rollout's progress by the rules of
//! `kubectl rollout status` (kubectl's `pkg/polymorphichelpers/rollout_status.go`).

use std::collections::BTreeMap;

use diagnostics::wording::one_line;
use serde::Deserialize;
use serde_json::{Value, json};

use super::name::Kind;

/// A Deployment, StatefulSet or DaemonSet.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Workload {
    metadata: Metadata,
    spec: Spec,
    status: Status,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Metadata {
    generation: i64,
    annotations: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Spec {
    paused: bool,
    replicas: Option<i64>,
    template: Template,
    update_strategy: UpdateStrategy,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: Option<Metadata>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct UpdateStrategy {
    #[serde(rename = "type")]
    kind: String,
    rolling_update: Option<RollingUpdate>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct RollingUpdate {
    partition: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Status {
    observed_generation: i64,
    replicas: i64,
    ready_replicas: i64,
    updated_replicas: i64,
    available_replicas: i64,
    desired_number_scheduled: i64,
    updated_number_scheduled: i64,
    number_available: i64,
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Condition {
    #[serde(rename = "type")]
    kind: String,
    reason: String,
    message: String,
}

/// The progress of a rollout.
#[derive(Debug, PartialEq, Eq)]
pub enum Progress {
    /// What the rollout waits for.
    Waiting(String),
    /// All replicas are new and available.
    Done(String),
    /// The rollout cannot succeed any more.
    Failed(String),
}

/// A patch that sets the annotation and nothing else.
pub fn patch(annotation: &str, digest: &str) -> Value {
    json!({"spec": {"template": {"metadata": {"annotations": {annotation: digest}}}}})
}

impl Workload {
    /// The number of the current specification.
    pub fn generation(&self) -> i64 {
        self.metadata.generation
    }

    /// An annotation of the pod template.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        let metadata = self.spec.template.metadata.as_ref()?;
        metadata.annotations.as_ref()?.get(key).map(String::as_str)
    }

    /// Whether a Deployment's rollouts are paused.
    pub fn is_paused(&self) -> bool {
        self.spec.paused
    }

    /// Why a new annotation does not replace every pod, if there is a reason.
    pub fn obstacle(&self, kind: Kind) -> Option<String> {
        let strategy = &self.spec.update_strategy;
        if kind == Kind::Deployment {
            return None;
        }
        if strategy.kind == "OnDelete" {
            return Some("its update strategy is OnDelete: pods stay until deleted".to_owned());
        }
        let partition = strategy.rolling_update.as_ref().and_then(|rolling| rolling.partition);
        match partition {
            Some(partition) if kind == Kind::StatefulSet && partition > 0 => Some(format!(
                "its update has the partition {partition}: pods with lower numbers stay old"
            )),
            _ => None,
        }
    }

    /// The progress of the current specification's rollout.
    pub fn progress(&self, kind: Kind) -> Progress {
        let status = &self.status;
        if status.observed_generation < self.metadata.generation || status.observed_generation == 0
        {
            return Progress::Waiting("its controller has not seen the change yet".to_owned());
        }
        match kind {
            Kind::Deployment => self.deployment(),
            Kind::StatefulSet => self.stateful_set(),
            Kind::DaemonSet => {
                let wanted = status.desired_number_scheduled;
                self.counted(wanted, status.updated_number_scheduled, status.number_available)
            }
        }
    }

    fn deployment(&self) -> Progress {
        let status = &self.status;
        let conditions = status.conditions.iter().flatten();
        let mut overdue = conditions
            .filter(|c| c.kind == "Progressing" && c.reason == "ProgressDeadlineExceeded");
        if let Some(condition) = overdue.next() {
            let message = one_line(condition.message.as_bytes());
            return Progress::Failed(format!("its progress deadline is exceeded: {message}"));
        }
        // The API server's default is 1.
        let wanted = self.spec.replicas.unwrap_or(1);
        if status.updated_replicas >= wanted && status.replicas > status.updated_replicas {
            let old = status.replicas - status.updated_replicas;
            return Progress::Waiting(format!("{old} old replicas have not ended yet"));
        }
        // There may be more than wanted while the Deployment is scaled down.
        let wanted = wanted.max(status.updated_replicas);
        self.counted(wanted, status.updated_replicas, status.available_replicas)
    }

    fn stateful_set(&self) -> Progress {
        let status = &self.status;
        let wanted = self.spec.replicas.unwrap_or(1);
        if status.ready_replicas < wanted {
            let ready = status.ready_replicas;
            return Progress::Waiting(format!("{ready} of {wanted} replicas are ready"));
        }
        self.counted(wanted, status.updated_replicas, status.available_replicas)
    }

    fn counted(&self, wanted: i64, updated: i64, available: i64) -> Progress {
        if updated < wanted {
            return Progress::Waiting(format!("{updated} of {wanted} replicas are new"));
        }
        if available < wanted {
            return Progress::Waiting(format!(
                "{available} of {wanted} new replicas are available"
            ));
        }
        let generation = self.status.observed_generation;
        Progress::Done(format!(
            "{available} of {wanted} replicas available, generation {generation}"
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(spec: &Value, status: &Value) -> Workload {
        let metadata = json!({"generation": 7, "name": "web"});
        let whole = json!({"metadata": metadata, "spec": spec, "status": status});
        serde_json::from_value(whole).unwrap()
    }

    fn deployment(status: &Value) -> Progress {
        workload(&json!({"replicas": 3}), status).progress(Kind::Deployment)
    }

    fn waits_for(progress: &Progress, what: &str) -> bool {
        matches!(progress, Progress::Waiting(text) if text.contains(what))
    }

    #[test]
    fn a_deployment_is_done_when_all_its_replicas_are_new_and_available() {
        let state = |observed, replicas, updated, available| {
            deployment(&json!({
                "observedGeneration": observed, "replicas": replicas,
                "updatedReplicas": updated, "availableReplicas": available,
            }))
        };
        assert!(waits_for(&state(6, 3, 3, 3), "not seen"));
        assert!(waits_for(&state(7, 4, 1, 3), "1 of 3 replicas are new"));
        assert!(waits_for(&state(7, 4, 3, 3), "1 old"));
        assert!(waits_for(&state(7, 3, 3, 2), "2 of 3 new"));
        assert!(waits_for(&state(7, 5, 5, 4), "4 of 5 new"));
        let done = "3 of 3 replicas available, generation 7".to_owned();
        assert_eq!(state(7, 3, 3, 3), Progress::Done(done));
        assert!(waits_for(&deployment(&json!({})), "not seen"));
    }

    #[test]
    fn a_deployment_past_its_deadline_has_failed_once_it_is_seen() {
        let conditions = json!([
            {"type": "Available", "status": "False", "reason": "MinimumReplicasUnavailable"},
            {"type": "Progressing", "status": "False", "reason": "ProgressDeadlineExceeded",
             "message": "ReplicaSet \"web-5\" has timed out\nprogressing."},
        ]);
        let state = |observed| {
            deployment(&json!({"observedGeneration": observed, "conditions": conditions.clone()}))
        };
        assert!(matches!(state(7), Progress::Failed(why) if why.ends_with(r"out\nprogressing.")));
        assert!(waits_for(&state(6), "not seen"), "the deadline of an earlier rollout");
    }

    #[test]
    fn a_stateful_set_is_done_when_all_its_replicas_are_new_and_ready() {
        let state = |ready, updated, available| {
            let status = json!({
                "observedGeneration": 7, "replicas": 2, "readyReplicas": ready,
                "updatedReplicas": updated, "availableReplicas": available,
            });
            workload(&json!({"replicas": 2}), &status).progress(Kind::StatefulSet)
        };
        assert!(waits_for(&state(1, 1, 1), "1 of 2 replicas are ready"));
        assert!(waits_for(&state(2, 1, 2), "1 of 2 replicas are new"));
        assert!(waits_for(&state(2, 2, 1), "1 of 2 new"));
        assert!(matches!(state(2, 2, 2), Progress::Done(_)));
    }

    #[test]
    fn a_daemon_set_is_done_on_all_nodes() {
        let state = |updated, available| {
            let status = json!({
                "observedGeneration": 7, "desiredNumberScheduled": 2,
                "updatedNumberScheduled": updated, "numberAvailable": available,
            });
            workload(&json!({}), &status).progress(Kind::DaemonSet)
        };
        assert!(waits_for(&state(1, 2), "1 of 2 replicas are new"));
        assert!(waits_for(&state(2, 1), "1 of 2 new"));
        assert!(matches!(state(2, 2), Progress::Done(_)));
    }

    #[test]
    fn pods_that_stay_old_are_an_obstacle() {
        let obstacle = |kind, strategy: Value| {
            workload(&json!({"updateStrategy": strategy}), &json!({})).obstacle(kind)
        };
        let on_delete = json!({"type": "OnDelete"});
        assert!(obstacle(Kind::StatefulSet, on_delete.clone()).unwrap().contains("OnDelete"));
        assert!(obstacle(Kind::DaemonSet, on_delete).unwrap().contains("OnDelete"));
        let part = |n: i64| json!({"type": "RollingUpdate", "rollingUpdate": {"partition": n}});
        assert!(obstacle(Kind::StatefulSet, part(1)).unwrap().contains("partition 1"));
        assert_eq!(obstacle(Kind::StatefulSet, part(0)), None);
        assert_eq!(obstacle(Kind::Deployment, json!({})), None);
    }
}
