//! Makes a client of the API server, with the address and the credentials of the pod's service account
//! or of a kubeconfig.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use diagnostics::exit::misconfigured;
use diagnostics::wording::{io_error, io_failure, one_line};
use kube::client::AuthError;
use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use outbound::secret::Secret;

use super::name::check_namespace;

/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// A cluster.
#[derive(Clone, Debug)]
pub enum Cluster {
    /// The cluster of this pod, by its service account.
    Own,
    /// The cluster of a kubeconfig's current context.
    Kubeconfig(PathBuf),
}

impl Cluster {
    /// Reads the credentials. Returns a client with them, and the default namespace.
    ///
    /// # Errors
    /// Fails if the credentials cannot be read or used.
    pub async fn client(&self) -> Result<(Client, String)> {
        let mut config = match self {
            Cluster::Own => Config::incluster_env().map_err(|error| in_cluster_failure(&error))?,
            Cluster::Kubeconfig(file) => kubeconfig(file)
                .await
                .with_context(|| {
                    let name = one_line(file.as_os_str().as_encoded_bytes());
                    format!("failed to use the kubeconfig `{name}`")
                })
                .map_err(|error| misconfigured(format_args!("{error:#}")))?,
        };
        // Read here, since kube would send the newline at its end too.
        if let (None, Some(file)) = (&config.auth_info.token, config.auth_info.token_file.take()) {
            let token = Secret::read(Path::new(&file))?;
            config.auth_info.token = Some(token.reveal().to_owned().into());
        }
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        // The caller retries, and reports it.
        config.default_retry = false;
        let namespace = check_namespace(config.default_namespace.trim())?;
        let client = Client::try_from(config).map_err(|error| match &error {
            kube::Error::Auth(error) => auth_failure(error),
            other => anyhow!("failed to prepare requests to the API server: {}", text_of(other)),
        })?;
        Ok((client, namespace))
    }
}

async fn kubeconfig(file: &Path) -> Result<Config> {
    let fail = |error: KubeconfigError| match error {
        // The error's message quotes the file, which holds secrets.
        KubeconfigError::Parse(_) => anyhow!("it is not a kubeconfig in YAML"),
        other => anyhow!(text_of(&other)),
    };
    let read = Kubeconfig::read_from(file).map_err(fail)?;
    Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await.map_err(fail)
}

/// The error for a service account that cannot be used.
fn in_cluster_failure(error: &InClusterError) -> anyhow::Error {
    match error {
        InClusterError::ReadEnvironmentVariable(_) => misconfigured(
            "this is not a pod (KUBERNETES_SERVICE_HOST is not set): name a kubeconfig",
        ),
        InClusterError::ReadDefaultNamespace(error)
        | InClusterError::ReadCertificateBundle(error) => anyhow!(
            "failed to read the service account's files: {} (is automountServiceAccountToken \
             false?)",
            io_error(error)
        ),
        other => anyhow!(text_of(other)),
    }
}

/// The error for credentials that cannot be used. It leaves out the output of a credential plugin,
/// which may be a token.
pub fn auth_failure(error: &AuthError) -> anyhow::Error {
    match error {
        AuthError::ReadTokenFile(error, file) => io_failure("read", file, error),
        AuthError::AuthExecStart(error) => {
            anyhow!("failed to run the kubeconfig's credential plugin: {}", io_error(error))
        }
        AuthError::AuthExecRun { out, .. } => {
            anyhow!("the kubeconfig's credential plugin failed: {}", out.status)
        }
        _ => anyhow!("the credentials for the API server are not usable"),
    }
}

fn text_of(error: &dyn std::error::Error) -> String {
    one_line(error.to_string().as_bytes())
}
