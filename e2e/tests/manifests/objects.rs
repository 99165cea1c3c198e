//! Reads fields of Kubernetes objects that are JSON values.

use serde_json::Value;

/// The string at a JSON pointer, or an empty one.
pub fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The array at a JSON pointer, or an empty one.
pub fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The strings in the array at a JSON pointer.
pub fn texts<'a>(value: &'a Value, pointer: &str) -> Vec<&'a str> {
    list(value, pointer).iter().filter_map(Value::as_str).collect()
}

/// The names and values of an object at a JSON pointer.
pub fn fields<'a>(value: &'a Value, pointer: &str) -> Vec<(&'a str, &'a Value)> {
    let object = value.pointer(pointer).and_then(Value::as_object);
    object.into_iter().flatten().map(|(name, value)| (name.as_str(), value)).collect()
}

/// The object's kind, such as `Deployment`.
pub fn kind(object: &Value) -> &str {
    text(object, "/kind")
}

/// The object's name, or its `generateName` without the last hyphen.
pub fn name(object: &Value) -> &str {
    match text(object, "/metadata/name") {
        "" => text(object, "/metadata/generateName").trim_end_matches('-'),
        name => name,
    }
}

/// The object's namespace.
pub fn namespace(object: &Value) -> &str {
    text(object, "/metadata/namespace")
}

/// `Kind/name`, for messages.
pub fn kind_and_name(object: &Value) -> String {
    format!("{}/{}", kind(object), name(object))
}

/// The Job specification of a Job or CronJob.
pub fn job(object: &Value) -> Option<&Value> {
    match kind(object) {
        "Job" => object.pointer("/spec"),
        "CronJob" => object.pointer("/spec/jobTemplate/spec"),
        _ => None,
    }
}

/// The pod template of a workload. A Pod is its own template.
pub fn template(object: &Value) -> Option<&Value> {
    match kind(object) {
        "Deployment" => object.pointer("/spec/template"),
        "Pod" => Some(object),
        _ => job(object)?.pointer("/template"),
    }
}

/// All containers of a pod template, init containers first.
pub fn containers(template: &Value) -> impl Iterator<Item = &Value> {
    list(template, "/spec/initContainers").iter().chain(list(template, "/spec/containers"))
}

/// Whether a label selector (`matchLabels`, `matchExpressions` with `In`, or plain labels) selects
/// these labels.
pub fn selects(selector: &Value, labels: &Value) -> bool {
    let is_plain =
        ["matchLabels", "matchExpressions"].iter().all(|field| selector.get(field).is_none());
    let wanted = fields(selector, if is_plain { "" } else { "/matchLabels" });
    let has = |name: &str, value: &str| labels.get(name).and_then(Value::as_str) == Some(value);
    wanted.iter().all(|(name, value)| has(name, value.as_str().unwrap_or_default()))
        && list(selector, "/matchExpressions").iter().all(|expression| {
            assert_eq!(text(expression, "/operator"), "In", "only the operator In is supported");
            let name = text(expression, "/key");
            texts(expression, "/values").iter().any(|value| has(name, value))
        })
}

/// The labels of a pod template.
pub fn labels(template: &Value) -> &Value {
    template.pointer("/metadata/labels").unwrap_or(&Value::Null)
}

#[test]
fn a_selector_selects_by_labels_and_expressions() {
    use serde_json::json;
    let labels = json!({"a": "1", "b": "2"});
    for (selector, expected) in [
        (json!({}), true),
        (json!({"a": "1"}), true),
        (json!({"a": "2"}), false),
        (json!({"matchLabels": {"a": "1", "c": "3"}}), false),
        (json!({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1", "2"]}]}), true),
        (json!({"matchExpressions": [{"key": "b", "operator": "In", "values": ["1"]}]}), false),
    ] {
        assert_eq!(selects(&selector, &labels), expected, "{selector}");
    }
}
