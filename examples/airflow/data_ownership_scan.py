"""Finds the owners of directories each day: a scan as an Airflow task.

The task starts the pod of the CronJob `data-owner-resolver` (k8s/ownership/base), which it reads from
the cluster at each run. So image, directories, volumes and rights are defined only in the CronJob. The
CronJob may be suspended if only Airflow starts scans.

The account of the connection needs the rights of k8s/ownership/components/airflow.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from airflow.providers.cncf.kubernetes.hooks.kubernetes import KubernetesHook
from airflow.providers.cncf.kubernetes.operators.pod import KubernetesPodOperator
from airflow.sdk import DAG, task
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from kubernetes.client import ApiClient, BatchV1Api
from kubernetes.client import models as k8s

NAMESPACE = "data-owner-resolver"
CRONJOB = "data-owner-resolver"
CONTAINER = "data-owner-resolver"
CONNECTION = "kubernetes_default"


def pod_of(cron_job: k8s.V1CronJob) -> dict:
    """Returns the pod of a CronJob, as a manifest."""
    template = cron_job.spec.job_template.spec.template
    pod = k8s.V1Pod(
        api_version="v1",
        kind="Pod",
        metadata=k8s.V1ObjectMeta(namespace=NAMESPACE, labels=template.metadata.labels),
        spec=template.spec,
    )
    return ApiClient().sanitize_for_serialization(pod)


class Scan(KubernetesPodOperator):
    """A scan that is not retried after exit code 2, as in the CronJob: the configuration is wrong, and
    trying a wrong password again may lock the account."""

    def execute(self, context):
        try:
            return super().execute(context)
        except AirflowException as error:
            if exit_code(self.remote_pod) == 2:
                raise AirflowFailException(str(error)) from error
            raise


def exit_code(pod: k8s.V1Pod | None) -> int | None:
    """Returns the exit code of the scan, or None if it has not ended."""
    statuses = pod.status.container_statuses if pod and pod.status else None
    for status in statuses or []:
        if status.name == CONTAINER and status.state and status.state.terminated:
            return status.state.terminated.exit_code
    return None


@task
def read_pod() -> dict:
    """Reads the pod from the CronJob."""
    api = BatchV1Api(KubernetesHook(conn_id=CONNECTION).get_conn())
    return pod_of(api.read_namespaced_cron_job(CRONJOB, NAMESPACE))


with DAG(
    dag_id="data_ownership_scan",
    description=__doc__.splitlines()[0],
    schedule="@daily",
    start_date=datetime(2026, 1, 1),
    catchup=False,
    max_active_runs=1,
    # Passes the pod to the operator as a manifest, not as text.
    render_template_as_native_obj=True,
    default_args={"retries": 1, "retry_delay": timedelta(minutes=10)},
    tags=["audit"],
) as dag:
    scan_owners = Scan(
        task_id="scan_owners",
        kubernetes_conn_id=CONNECTION,
        namespace=NAMESPACE,
        name="data-owner-resolver",
        pod_template_dict="{{ ti.xcom_pull(task_ids='read_pod') }}",
        base_container_name=CONTAINER,
        # The result goes to the task's log, unless the CronJob writes it to a volume.
        get_logs=True,
        # As in the CronJob: the operator ignores the value in the pod.
        termination_message_policy="FallbackToLogsOnError",
        startup_timeout_seconds=600,
        execution_timeout=timedelta(hours=4),
        on_finish_action="delete_pod",
    )
    read_pod() >> scan_owners
