"""Imports the DAG with Airflow, compares the pod that it would start with the CronJob's pod, and runs
its tasks against a fake API server on loopback, whose pods end with the exit codes 0, 1 and 2 in turn."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from airflow.dag_processing.dagbag import DagBag
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import ApiClient

EXAMPLES = Path(__file__).parents[2] / "examples/airflow"


def deserialize(cron_job: dict):
    """Deserializes the CronJob as the Kubernetes client does with an answer of the API."""

    class Response:
        data = json.dumps(cron_job)

    return ApiClient().deserialize(Response(), "V1CronJob")


def main() -> None:
    """Raises an exception if a check fails."""
    bag = DagBag(dag_folder=str(EXAMPLES))
    assert not bag.import_errors, bag.import_errors
    assert list(bag.dags) == ["data_ownership_scan"], bag.dags
    dag = bag.dags["data_ownership_scan"]
    scan = dag.get_task("scan_owners")
    assert scan.upstream_task_ids == {"read_pod"}, scan.upstream_task_ids
    assert "pod_template_dict" in scan.template_fields, scan.template_fields
    assert dag.render_template_as_native_obj

    sys.path.insert(0, str(EXAMPLES))
    from data_ownership_scan import pod_of

    cron_job = json.loads(Path(sys.argv[1]).read_text())
    template = cron_job["spec"]["jobTemplate"]["spec"]["template"]
    scan.pod_template_dict = pod_of(deserialize(cron_job))
    pod = ApiClient().sanitize_for_serialization(scan.build_pod_request_obj(None))
    expected = template["spec"]
    # Fields that the operator adds empty; they do not change the pod.
    for field in ("affinity", "hostNetwork", "tolerations", "initContainers", "nodeSelector"):
        if not pod["spec"].get(field):
            pod["spec"].pop(field, None)
    container, wanted = pod["spec"]["containers"][0], expected["containers"][0]
    for field in ("env", "ports"):
        if not container.get(field):
            container.pop(field, None)
    assert container == wanted, (container, wanted)
    assert pod["spec"] == expected, (pod["spec"], expected)
    assert template["metadata"]["labels"].items() <= pod["metadata"]["labels"].items(), pod["metadata"]
    assert pod["metadata"]["namespace"] == "data-owner-resolver", pod["metadata"]
    print("the same pod")
    run(dag, cron_job)


def run(dag, cron_job: dict) -> None:
    """Runs each task three times, as a worker would."""
    outcomes = []
    for number in range(3):
        task = SimpleNamespace(
            dag_id=dag.dag_id, task_id="scan_owners", try_number=1, map_index=-1, xcom_push=lambda **_: None
        )
        context = {"ti": task, "run_id": f"run{number}", "dag": dag}
        scan = dag.get_task("scan_owners").prepare_for_execution()
        scan.pod_template_dict = dag.get_task("read_pod").python_callable()
        read = scan.pod_template_dict["spec"]
        assert read == cron_job["spec"]["jobTemplate"]["spec"]["template"]["spec"], read
        try:
            scan.execute(context)
            outcomes.append("done")
        except AirflowFailException as error:
            assert "wrong password" in str(error), error
            outcomes.append("not tried again")
        except AirflowException:
            outcomes.append("tried again")
    # Deletes the last pod, as when a user marks the task as failed.
    scan.on_kill()
    print(", ".join(outcomes))


main()
